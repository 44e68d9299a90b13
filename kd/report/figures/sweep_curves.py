"""Curves, scatter plots and dot plots of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from kd.report.figures.style import (
    BASELINE,
    BLUE,
    MARKERS,
    STUDENT,
    STYLE,
    TEACHER,
    blank,
    is_logarithmic,
    log_axis,
    plain_number,
    shorten,
    styled,
)

NUMBERED_COLUMNS = 12  # columns of one heat map; with more, numbers no longer fit into its cells
BANDS = 5  # lines of one panel; with more, bands would hide one another


@dataclass(frozen=True)
class Line:
    """One curve with its standard deviation; arrays [N]."""

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def _reference(ax, baseline: Line | None, teacher: tuple[float, float] | None) -> None:
    """Draw the baseline as a grey line with its band, and the teacher as a line, several teachers also as a band."""
    if baseline is not None:
        colour = STYLE[BASELINE][0]
        ax.plot(baseline.x, baseline.mean, "--", color=colour, linewidth=1.6)
        ax.fill_between(baseline.x, *_band(baseline), color=colour, alpha=0.16, linewidth=0)
    if teacher is not None:
        ax.axhspan(*teacher, color=STYLE[TEACHER][0], alpha=0.16, linewidth=0)
        ax.axhline(sum(teacher) / 2, color=STYLE[TEACHER][0], linestyle=":", linewidth=1.8)


def _band(line: Line) -> tuple[np.ndarray, np.ndarray]:
    return line.mean - np.nan_to_num(line.std), line.mean + np.nan_to_num(line.std)


def _limits(lines: Sequence[Line], teachers: Sequence[tuple[float, float]]) -> tuple[float, float, bool]:
    """Return the ends of the axis, and whether the teachers are on it: far away they would flatten the curves."""
    seen = np.concatenate([bound for line in lines for bound in _band(line)])
    seen = seen[np.isfinite(seen)]
    low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
    room = max(high - low, abs(high) * 1e-3, 1e-6)
    near = [t for pair in teachers for t in pair if low - 0.6 * room < t < high + 0.6 * room]
    on_axis = len(near) == 2 * len(teachers)
    if on_axis:
        low, high = min([low, *near]), max([high, *near])
    return low - 0.08 * room, high + (0.08 if on_axis else 0.2) * room, on_axis


@styled
def curves(
    slices: Mapping[str, Mapping[str, Line]],
    baselines: Mapping[str, Line],
    teachers: Mapping[str, tuple[float, float]],
    axes: tuple[str, str],
    title: str,
) -> Figure:
    """Draw a measure along one setting, with a line for each value of another; few lines get bands.

    A band is one standard deviation over seeds.

    Args:
        slices: title of a panel ("" for a single one) -> label of a line -> line.
        baselines, teachers: title of a panel -> reference line; lowest and highest score of the panel's teachers.
        axes: labels of the two axes: the setting, the measure.
    """
    across = len(slices) if len(slices) <= 3 else 2 if len(slices) == 4 else 3
    down = -(-len(slices) // across)
    figure = blank(0.9 + (3.3 if down == 1 else 2.6) * down, title)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    labels = list(dict.fromkeys(label for lines in slices.values() for label in lines))
    colours = dict(zip(labels, _ordered(len(labels)), strict=True))
    everything = [line for lines in slices.values() for line in lines.values()]
    low, high, on_axis = _limits([*everything, *baselines.values()], list(teachers.values()))
    for ax, (panel, lines) in zip(grid.flat, slices.items(), strict=False):
        for label, line in lines.items():
            k = labels.index(label)
            if len(labels) <= BANDS:
                ax.fill_between(line.x, *_band(line), color=colours[label], alpha=0.13, linewidth=0)
            mark = {"marker": MARKERS[k % len(MARKERS)], "markersize": 6, "markeredgecolor": "white"}
            ax.plot(line.x, line.mean, color=colours[label], linewidth=1.8, **mark)
        ticks = np.unique(np.concatenate([line.x for line in lines.values()]))
        if is_logarithmic(ticks):
            log_axis(ax, 2, ticks)
        elif len(ticks) <= 12:
            ax.set_xticks(ticks, [plain_number(tick) for tick in ticks])
        _reference(ax, baselines.get(panel), teachers.get(panel) if on_axis else None)
        if panel in teachers and not on_axis:
            middle = sum(teachers[panel]) / 2
            words = f"{'↑' if middle > high else '↓'} teacher {middle:.4g}, off this axis"
            ax.text(0.99, 0.98, words, transform=ax.transAxes, ha="right", va="top", color=STYLE[TEACHER][0])
        ax.set(xlabel=axes[0], title=panel, ylabel=axes[1] if ax in grid[:, 0] else "")
        ax.grid(axis="y")
    grid[0, 0].set_ylim(low, high)
    for ax in list(grid.flat)[len(slices) :]:
        ax.set_axis_off()
    handles = [
        Line2D([], [], color=colours[label], marker=MARKERS[k % len(MARKERS)], markeredgecolor="white", label=label)
        for k, label in enumerate(labels)
    ]
    if baselines:
        handles.append(Line2D([], [], color=STYLE[BASELINE][0], linestyle="--", label=BASELINE))
    if teachers and on_axis:
        handles.append(Line2D([], [], color=STYLE[TEACHER][0], linestyle=":", linewidth=1.8, label=TEACHER))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    return figure


def _ordered(count: int) -> list:
    """Return colours from light to dark, an order that colour-blind readers see; for one line the student's colour."""
    return [STYLE[STUDENT][0]] if count == 1 else sns.color_palette("flare", count)


@styled
def scatter(
    x: np.ndarray, y: np.ndarray, accuracy: np.ndarray, picked: Sequence[int], axes: tuple[str, str], title: str
) -> Figure:
    """Draw the cells of a search, which fill no grid, at their settings; the shade is their accuracy. Arrays [N]."""
    figure = blank(4.4, title)
    ax = figure.subplots()
    order = np.argsort(np.nan_to_num(accuracy, nan=-1))  # the best on top
    shades = sns.light_palette(BLUE, as_cmap=True)
    drawn = ax.scatter(x[order], y[order], 90, c=accuracy[order], cmap=shades, edgecolor="#555555", linewidth=0.6)
    if picked:
        picked = list(picked)
        ring = {"facecolor": "none", "edgecolor": "black", "linewidth": 2}
        ax.scatter(x[picked], y[picked], 240, label="picked by validation", **ring)
        figure.legend(loc="outside lower center", frameon=False)
    if is_logarithmic(x):
        log_axis(ax)
    if is_logarithmic(y, 20):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(plain_number))
        ax.yaxis.set_minor_formatter(NullFormatter())
    figure.colorbar(drawn, ax=ax, label="test accuracy (%), mean over seeds")
    ax.set(xlabel=axes[0], ylabel=axes[1])
    ax.grid()
    return figure


@styled
def dots(
    names: Sequence[str],
    student: Line,
    baseline: Line,
    teacher: np.ndarray,
    picked: Sequence[int],
    measure: str,
    title: str,
) -> Figure:
    """Draw one row per cell with student, baseline and teacher. ``x`` of the lines is the row, 0 at the top."""
    count = len(names)
    figure = blank(1.3 + 0.34 * max(count, 2), title)
    ax = figure.subplots()
    place = np.arange(count)
    for label, line in ((BASELINE, baseline), (STUDENT, student)):
        if not np.isfinite(line.mean).any():
            continue
        colour, marker = STYLE[label]
        bars = {"capsize": 3, "linewidth": 1.4, "linestyle": "none", "markeredgecolor": "white"}
        ax.errorbar(
            line.mean,
            line.x,
            xerr=np.nan_to_num(line.std),
            color=colour,
            marker=marker,
            markersize=8,
            label=label,
            **bars,
        )
    colour, marker = STYLE[TEACHER]
    if np.isfinite(teacher).any():
        ax.scatter(teacher, place, 55, color=colour, marker=marker, label=TEACHER, edgecolor="white", zorder=3)
    ax.set_yticks(place, [shorten(name, 44) + ("  (picked)" if k in picked else "") for k, name in enumerate(names)])
    ax.set_ylim(count - 0.4, -0.6)
    ax.set_xlabel(f"{measure}, bars: one standard deviation over seeds")
    ax.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
