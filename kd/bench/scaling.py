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
STEPS, IMAGES = 4, 256  # of a point: an epoch is at least as many batches, and at least as many images


def points(setting: Setting, students: Sequence[int], jobs: Sequence[str]) -> list[tuple[str, int, str, Setting]]:
    """Return (axis, value, job, setting) of every point.

    Args:
        jobs: to measure at each batch and image size.
    """
    found = [
        (axis, value, job) for job in jobs for axis, value in [*_on("batch_size", BATCHES), *_on("image_size", SIZES)]
    ]
    found += [("students", count, "one_pass") for count in students]
    return [(*point, short(replace(setting, **{point[0]: point[1]}))) for point in found]


def _on(axis: str, values: Sequence[int]) -> list[tuple[str, int]]:
    return [(axis, value) for value in values]


def short(setting: Setting) -> Setting:
    """Return a setting with few images."""
    return replace(setting, images=max(STEPS * setting.batch_size, IMAGES))


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
