"""The figure of ``python -m kd.bench``: speed by job, where an epoch's time goes, and scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from kd.report.figures.style import FAINT, INK, MARKERS, STUDENT, STYLE, blank, log_axis, styled

Found = Mapping[str, Any]
AXES = {"batch_size": "batch", "image_size": "image side (pixels)", "students": "students in one pass"}
OUTSIDE = ("naive", "torchdistill")


@styled
def benchmark(found: Found) -> Figure:
    """Draw the content of ``bench.json``: two panels, and a row of panels below if scaling was measured."""
    jobs, scaling = found["jobs"], found.get("scaling")
    watched = {name: job for name, job in jobs.items() if "parts" in job}
    heights = [1.1 + 0.3 * len(jobs)] + [1.3 + 0.3 * len(watched)] * bool(watched) + [2.9] * bool(scaling)
    figure = blank(0.4 + sum(heights), title(found))
    rows = np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights))
    _speed(rows[0].subplots(), jobs)
    if watched:
        _parts(rows[1].subplots(), watched)
    if scaling:
        _scaling(rows[-1], scaling)
    return figure


def title(found: Found) -> str:
    setting = found["setting"]
    return (
        f"{setting['networks']}, {setting['image_size']}×{setting['image_size']}, batch {setting['batch_size']}, "
        f"on {found['machine']['device_name']}"
    )


def label(name: str, job: Mapping[str, Any]) -> str:
    several = f"{job['students']} students, " if job["students"] > 1 else ""
    return f"{name} ({several}{job['precision']})"


def _speed(ax: Axes, jobs: Mapping[str, Any]) -> None:
    """Bars of the median; a line from the slowest round to the fastest; the number beyond its end."""
    names = list(jobs)
    top = max(job["images_per_s"]["max"] for job in jobs.values())
    for row, name in enumerate(names):
        speed = jobs[name]["images_per_s"]
        ax.barh(row, speed["median"], color=FAINT if name in OUTSIDE else STYLE[STUDENT][0], height=0.62)
        ax.plot([speed["min"], speed["max"]], [row, row], color=INK, linewidth=1.4)
        ax.text(speed["max"] + 0.01 * top, row, f"{speed['median']:,.0f}", va="center", color=INK)
    ax.set_yticks(range(len(names)), [label(name, jobs[name]) for name in names])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.1 * top)
    ax.set_title("images/s (times students): median, slowest and fastest round", loc="left")


def _parts(ax: Axes, jobs: Mapping[str, Any]) -> None:
    names, left = list(jobs), np.zeros(len(jobs))
    parts = list(jobs[names[0]]["parts"])
    for colour, part in zip(sns.color_palette("colorblind", len(parts)), parts, strict=True):
        seconds = np.array([jobs[name]["parts"][part] for name in names])
        ax.barh(range(len(names)), seconds, left=left, color=colour, height=0.62, label=part)
        left += seconds
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_title("seconds of an epoch, by part", loc="left")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _scaling(row: SubFigure, points: list[dict[str, Any]]) -> None:
    axes = list(dict.fromkeys(point["axis"] for point in points))
    for ax, axis in zip(np.atleast_1d(row.subplots(1, len(axes))), axes, strict=True):
        own = [point for point in points if point["axis"] == axis and point["images_per_s"]]
        names = list(dict.fromkeys(point["job"] for point in own))
        for number, (colour, name) in enumerate(zip(sns.color_palette("colorblind", len(names)), names, strict=True)):
            line = [(point["value"], point["images_per_s"]) for point in own if point["job"] == name]
            ax.plot(*zip(*line, strict=True), color=colour, marker=MARKERS[number], label=name)
        values = sorted({point["value"] for point in own})
        if values:
            log_axis(ax, 2, values)
            ax.tick_params(axis="x", labelrotation=45)
            ax.set_ylim(0, 1.08 * max(point["images_per_s"] for point in own))
            ax.legend(frameon=False)
        ax.set_xlabel(AXES[axis])
        ax.set_ylabel("images/s" if axis == axes[0] else "")
        ax.grid(axis="y")
