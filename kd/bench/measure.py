"""All measurements of one benchmark, in one dict: the content of ``bench.json``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kd.bench.ceiling import Rates, floor_seconds, layers, measure_rates
from kd.bench.job import Job
from kd.bench.jobs import make_jobs
from kd.bench.processes import start_up, two_at_once
from kd.bench.rounds import take_turns
from kd.bench.scaling import measure_scaling
from kd.bench.setting import Setting, Setup, set_up, share_data
from kd.bench.sweep import measure_sweep
from kd.bench.torch_state import own_torch_state, plain_torch
from kd.runtime.device import Device, resolve_device

FORMAT = 1  # of bench.json


def measure(
    setting: Setting,
    names: Sequence[str],
    rounds: int,
    measures: Sequence[str],
    students: Sequence[int],
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> dict[str, Any]:
    """Measure these jobs.

    Args:
        measures: what to measure besides the rounds, of ``kd.bench.__main__.MEASURES``.
        students: of a one-pass sweep, for the scaling.

    Raises:
        ValueError: the setting is wrong.
    """
    plain = plain_torch(setting.threads)
    setup = set_up(setting)
    jobs, left_out = make_jobs(names, setup, plain)
    found = {"format": FORMAT, "machine": machine(setup), "setting": about(setup), "rounds": rounds}
    found["left_out"] = left_out
    for name, why in left_out.items():
        say(f"left out   {name:<16} {why}")
    found["jobs"] = take_turns(setting, jobs, rounds, "parts" in measures, say)
    if "ceiling" in measures:
        add_ceiling(found, jobs, setup, plain)
    if "start_up" in measures:
        say("start-up")
        outputs = share_data(setting, "start_up")
        found["start_up"] = start_up(setting.arguments(f"outputs={outputs}"), Path(setting.folder))
    if "two_at_once" in measures:
        say("two at once")
        found["two_at_once"] = two_at_once(setting, "cached", rounds)
    if "scaling" in measures:
        found["scaling"] = measure_scaling(setting, students, [job for job in ("live", "cached") if job in names], say)
    if "sweep" in measures:
        say("sweep")
        found["sweep"] = measure_sweep(setup, plain, setting.epochs)
        fills = [job["prepare_seconds"].get("logit_cache", 0.0) for job in found["jobs"].values()]
        found["sweep"]["fill_seconds"] = max(fills, default=0.0) / setting.epochs
    return found


def machine(setup: Setup) -> dict[str, Any]:
    """Return what the figures depend on besides the programs."""
    return {
        **setup.plan.device.describe(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def about(setup: Setup) -> dict[str, Any]:
    setting, choices = setup.setting, setup.plan.choices
    return {
        "networks": f"{choices['teacher']} → {choices['student']}",
        "data": choices["data"],
        "overrides": list(setting.overrides),
        "images": setting.images,
        "validation_images": len(setup.dataset.val),
        "batch_size": setting.batch_size,
        "image_size": setting.image_size,
        "epochs": setting.epochs,
        "workers": setting.workers,
    }


def add_ceiling(found: dict[str, Any], jobs: Sequence[Job], setup: Setup, plain: dict[str, object]) -> None:
    """Measure the machine's rates in every precision that a job has, and add each job's share of its ceiling.

    The floor of an epoch holds the student's training steps and, with a live teacher, the teacher's forward passes.
    """
    setting, train = setup.setting, setup.plan.settings["train"]
    batch = min(setting.batch_size, setting.images)
    student, teacher = (layers(net, setting.image_size, batch) for net in (setup.student, setup.teacher))
    rates: dict[str, Rates] = {}
    for job in jobs:
        with own_torch_state(plain):
            device: Device = resolve_device(train["device"], job.precision, train["channels_last"], train["threads"])
            if job.precision not in rates:
                rates[job.precision] = measure_rates(device)
        size = device.precision.itemsize
        step = floor_seconds(student, rates[job.precision], size)[1]
        step += floor_seconds(teacher, rates[job.precision], size)[0] if job.uses_teacher else 0.0
        own = found["jobs"][job.name]
        own["floor_seconds"] = step * (own["images"] * own["students"] / batch)
        own["ceiling_share"] = own["floor_seconds"] / own["epoch_seconds_median"]
    counts = {
        name: {"macs": sum(x.flops for x in of) // 2 // batch, "numbers": sum(x.numbers for x in of) // batch}
        for name, of in (("student", student), ("teacher", teacher))
    }
    found["ceiling"] = {"rates": {name: each._asdict() for name, each in rates.items()}, "per_image": counts}
