"""The jobs of the benchmark by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """Return the jobs, not yet prepared, and why others are left out.

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
