"""The rounds in which the jobs take turns, each in a process of its own: a b c, a b c, ..."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from kd.bench.job import Job
from kd.bench.setting import Setting
from kd.bench.worker import Worker


def take_turns(
    setting: Setting, jobs: Sequence[Job], rounds: int, watch: bool, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Train every job once as a warm-up, then ``rounds`` times in turns; one process computes, the others wait.

    Args:
        watch: train once more under stopwatches, where a job can be watched.

    Returns:
        The figures of each job by its name, as in ``bench.json``.

    Raises:
        WorkerError: a process ended.
    """
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers = {}
        for job in jobs:
            workers[job.name] = stack.enter_context(Worker(setting, job.name, memory=True))
            found[job.name] = {**workers[job.name].receive(), "epoch_seconds": []}
            say(f"warm-up    {_rate(job, found[job.name]['warm_up_seconds'])}")
        for number in range(1, rounds + 1):
            for job in jobs:
                seconds = workers[job.name].train()["epoch_seconds"]
                found[job.name]["epoch_seconds"].append(seconds)
                say(f"round {number:<4} {_rate(job, seconds)}")
        for job in jobs:
            if watch and job.is_watched:
                found[job.name]["parts"] = workers[job.name].watch()["parts"]
    return {job.name: summary(found[job.name]) for job in jobs}


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """Add rates over the rounds."""
    images, seconds = figures["images"] * figures["students"], figures["epoch_seconds"]
    rates = [images / each for each in seconds]
    median = statistics.median(seconds)
    speed = {"median": images / median, "min": min(rates), "max": max(rates)}
    return {**figures, "epoch_seconds_median": median, "images_per_s": speed}


def _rate(job: Job, seconds: float) -> str:
    return f"{job.name:<16} {job.precision:<9} {job.students * job.images / seconds:8.1f} images/s"
