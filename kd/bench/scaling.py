"""How speed changes with the batch, the image and the number of students.

Each point is a process of its own, which trains one short epoch after a warm-up. So a point that needs more memory than
there is ends without a figure, and the benchmark continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kd.bench.setting import Setting
from kd.bench.worker import Worker, WorkerError

BATCHES = (32, 64, 128, 256, 512, 1024)
SIZES = (32, 48, 64, 100, 128, 160, 224)
STEPS = 4  # of a point: an epoch is as many batches


def points(setting: Setting, students: Sequence[int], jobs: Sequence[str]) -> list[tuple[str, int, str, Setting]]:
    """Return (axis, value, job, setting) of every point.

    Args:
        jobs: to measure at each batch and image size.
    """
    found = []
    for job in jobs:
        for batch in BATCHES:
            found.append(("batch_size", batch, job, replace(setting, batch_size=batch, images=STEPS * batch)))
        for size in SIZES:
            own = replace(setting, image_size=size, images=STEPS * setting.batch_size)
            found.append(("image_size", size, job, own))
    for count in students:
        own = replace(setting, students=count, images=STEPS * setting.batch_size)
        found.append(("students", count, "one_pass", own))
    return found


def measure_scaling(
    setting: Setting, students: Sequence[int], jobs: Sequence[str], say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Return a row for each point: ``{"axis", "value", "job", "images_per_s" or None, "host_bytes", "left_out"}``."""
    rows = []
    for axis, value, job, own in points(setting, students, jobs):
        row = {"axis": axis, "value": value, "job": job, "images_per_s": None, "host_bytes": None, "left_out": None}
        try:
            with Worker(own, job, memory=True) as worker:
                ready = worker.receive()
                row["host_bytes"] = ready["memory"]["host_bytes"]
                row["images_per_s"] = ready["students"] * ready["images"] / worker.train()["epoch_seconds"]
        except WorkerError as error:
            row["left_out"] = str(error)
        rows.append(row)
        speed = row["left_out"] or f"{row['images_per_s']:8.1f} images/s"
        say(f"{axis:<11}{value:>5} {job:<16} {speed}")
    return rows
