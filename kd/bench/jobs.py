"""The jobs of the benchmark by name, and the rounds in which they take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kd.bench.job import Job
from kd.bench.naive import Naive
from kd.bench.one_pass import OnePass
from kd.bench.ours import Ours
from kd.bench.setting import Setup
from kd.bench.torchdistill_job import HINT, TorchDistill, is_installed

Make = Callable[[Setup, dict[str, object]], Job]
JOBS: dict[str, Make] = {
    "naive": Naive,
    "torchdistill": TorchDistill,
    "live": lambda setup, plain: Ours(setup, plain, "auto", "live"),
    "cached": lambda setup, plain: Ours(setup, plain, "auto", "cached"),
    "one_pass": OnePass,
    "live float32": lambda setup, plain: Ours(setup, plain, "float32", "live"),
    "cached float32": lambda setup, plain: Ours(setup, plain, "float32", "cached"),
}


def make_jobs(names: Sequence[str], setup: Setup, plain: dict[str, object]) -> tuple[list[Job], dict[str, str]]:
    """Return the jobs, and why others are left out.

    Args:
        plain: torch's settings when the benchmark started.
    """
    jobs, left_out = [], {}
    for name in names:
        if name == "torchdistill" and not is_installed():
            left_out[name] = HINT
            continue
        job = JOBS[name](setup, plain)
        chosen = next((other for other in jobs if f"{other.name} float32" == name), None)
        if chosen is not None and chosen.precision == job.precision:
            left_out[name] = f"the same as {chosen.name}: precision=auto is {job.precision} here"
            continue
        jobs.append(job)
    return jobs, left_out


def take_turns(jobs: Sequence[Job], rounds: int, say: Callable[[str], None] = print) -> dict[str, dict[str, Any]]:
    """Train every job once as a warm-up, then ``rounds`` times in turns: a b c, a b c, ...

    Returns:
        By job ``{"prepare_seconds": by name, "warm_up_seconds": of an epoch, "epoch_seconds": [of each round]}``.
    """
    found: dict[str, dict[str, Any]] = {}
    for job in jobs:
        found[job.name] = {"prepare_seconds": job.prepare(), "warm_up_seconds": job.timed(), "epoch_seconds": []}
        say(f"warm-up    {job.name:<16} {_rate(job, found[job.name]['warm_up_seconds'])}")
    for number in range(1, rounds + 1):
        for job in jobs:
            seconds = job.timed()
            found[job.name]["epoch_seconds"].append(seconds)
            say(f"round {number:<4} {job.name:<16} {_rate(job, seconds)}")
    return found


def _rate(job: Job, seconds: float) -> str:
    return f"{job.precision:<9} {job.students * job.images / seconds:8.1f} images/s"
