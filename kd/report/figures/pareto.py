"""Pareto fronts: accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from kd.report.figures.style import INK, STYLE, blank, is_logarithmic, log_axis, styled


@dataclass(frozen=True)
class Front:
    """The points of one panel: accuracy against one cost.

    ``kind`` of a point is a label of ``kd.report.figures.style.STYLE``. A point with the ``name`` "" has no label.
    """

    axis: str
    cost: np.ndarray  # [N]
    accuracy: np.ndarray  # [N], percent
    error: np.ndarray  # [N]
    kind: Sequence[str]
    name: Sequence[str]
    front: np.ndarray  # [N] bool


@styled
def fronts(panels: Sequence[Front], key: Sequence[str], title: str) -> Figure:
    """Draw accuracy against costs; a line joins the points that no other beats in both.

    Args:
        key: lines that explain the names of the points.
    """
    lines = -(-len(key) // 2)
    figure = blank(3.4 + 0.2 * lines, title)
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for ax, panel in zip(axes, panels, strict=True):
        kinds = np.array(panel.kind)
        first = np.flatnonzero(panel.front)
        first = first[np.argsort(panel.cost[first], kind="stable")]
        ax.step(panel.cost[first], panel.accuracy[first], where="post", color=INK, linewidth=1.1, zorder=1)
        for label, (colour, marker) in STYLE.items():
            chosen = kinds == label
            if not chosen.any():
                continue
            where = panel.cost[chosen], panel.accuracy[chosen]
            faint = {"alpha": 0.3 if chosen.sum() > 20 else 0.7, "linestyle": "none", "linewidth": 0.9}
            ax.errorbar(*where, np.nan_to_num(panel.error[chosen]), color=colour, **faint)
            edge = {"edgecolor": "white", "linewidth": 0.7, "zorder": 3}
            ax.scatter(*where, 48, color=colour, marker=marker, label=label, **edge)
        if is_logarithmic(panel.cost, 3):
            log_axis(ax)
            low, high = panel.cost.min(), panel.cost.max()
            room = (high / low) ** 0.2
            ax.set_xlim(low / room, high * room)
            ax.xaxis.set_major_locator(LogLocator(numticks=5, subs=(1,) if high / low > 8 else (1, 2, 5)))
        else:
            middle, half = panel.cost.mean(), max(np.ptp(panel.cost) * 0.75, abs(panel.cost.mean()) * 0.02, 1e-9)
            ax.set_xlim(middle - half, middle + half)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlabel(panel.axis)
        ax.margins(y=0.14)
        ax.grid()
    axes[0].set_ylabel("test accuracy (%)")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    line = Line2D([], [], color=INK, linewidth=1.1, label="front: no point is both cheaper and better")
    meaning = "\n".join("      ".join(key[k : k + 2]) for k in range(0, len(key), 2))
    below = {"loc": "outside lower center", "ncols": 4, "frameon": False, "title_fontsize": 9}
    figure.legend(handles=[*handles.values(), line], title=meaning, **below)
    figure.get_layout_engine().execute(figure)  # fixes the positions of the points, which the names need
    for ax, panel in zip(axes, panels, strict=True):
        _label(ax, panel)
    return figure


def _label(ax, panel: Front) -> None:
    """Write each name beside its point, where possible at a place that covers neither a point nor another name."""
    points = ax.transData.transform(np.c_[panel.cost, panel.accuracy])
    frame, pixel = ax.get_window_extent(), ax.figure.dpi / 72
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for (x, y), name, place in zip(points, panel.name, zip(panel.cost, panel.accuracy, strict=True), strict=True):
        if not name:
            continue
        wide, tall = 6 * pixel * len(name), 9 * pixel
        tried = []
        for right, up in ((-1, 1), (1, 1), (-1, 0), (1, -1), (-1, -1), (1, 0), (0, 1), (0, -1)):
            left = x + 7 * pixel * right - wide * (1 - right) / 2
            low = y + 7 * pixel * up - tall * (1 - up) / 2
            box = left, low, left + wide, low + tall
            hits = sum(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
            outside = box[0] < frame.x0 or box[2] > frame.x1 or box[1] < frame.y0 or box[3] > frame.y1
            tried.append((hits + 3 * outside, len(tried), box, (7 * right, 7 * up)))
        _, _, box, offset = min(tried)
        taken.append(box)
        across, along = (
            ("right", "center", "left")[1 + np.sign(offset[0])],
            ("top", "center", "bottom")[1 + np.sign(offset[1])],
        )
        ax.annotate(
            name,
            place,
            offset,
            textcoords="offset points",
            ha=across,
            va=along,
            size=9.2,
            weight="bold",
            color=INK,
            zorder=6,
        )
