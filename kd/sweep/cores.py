"""The share of a machine's cores that each job of a multirun gets."""

from __future__ import annotations

import os

ALL_AT_ONCE = "LocalLauncher"  # submitit's, which starts every job at once on this machine and sets no threads


def share_cores(launcher: str, jobs: int) -> None:
    """Give each job its share of the cores, where the launcher does not: joblib, Ray and Slurm do it themselves.

    The jobs inherit the variable. One that the user set stays.
    """
    if launcher.endswith(ALL_AT_ONCE):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // max(1, jobs))))
