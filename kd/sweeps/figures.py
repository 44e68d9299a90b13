"""Arrays of a sweep -> figures, in the style of ``kd.figures``: heat maps, curves, dots, fronts.

Accuracies come in percent, spreads as standard deviations over seeds. NaN stands for what is not there (yet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from kd.figures import INK, STYLE, blank, draw_differences, draw_shares, rows_to_percent, shorten, styled

BLUE = "#6ea4de"  # of heat maps: black stays readable on all of its shades
ANNOTATE = 12  # columns of one heat map: with more, numbers no longer fit into its cells
BANDS = 5  # lines of one panel: of more, bands would hide one another
TEACHER, STUDENT, TWIN = STYLE
MARKERS = "osD^vP*X"
MISSING = {"facecolor": "#f3f3f3", "edgecolor": "#bdbdbd", "hatch": "///", "linewidth": 0}


@dataclass(frozen=True)
class Heat:
    """One matrix, rows x columns; ``text`` holds what stands in each cell, lines divided by a newline."""

    title: str
    values: np.ndarray  # [R, C]
    text: Sequence[Sequence[str]]
    picked: Sequence[tuple[int, int]] = ()  # row, column of each cell that validation picked


@dataclass(frozen=True)
class Line:
    """One curve with its deviation; arrays [N]."""

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Front:
    """Accuracy against one cost. ``kind`` of a point is a label of ``kd.figures.STYLE``; ``name`` "" is not written."""

    axis: str
    cost: np.ndarray  # [N]
    accuracy: np.ndarray  # [N], percent
    error: np.ndarray  # [N]
    kind: Sequence[str]
    name: Sequence[str]
    front: np.ndarray  # [N] bool


@styled
def heat_maps(
    heats: Sequence[Heat],
    columns: Sequence[str],
    rows: Sequence[str],
    axes: tuple[str, str],
    title: str,
    note: str = "",
    lower: bool = False,
) -> Figure:
    """Matrices on one scale, darker is better; what is missing is hatched, the cell that validation picked outlined.

    Args:
        axes: what the columns and what the rows are. lower: whether a lower number is the better one.
    """
    across = 1 if len(columns) > 6 or len(heats) == 1 else 2 if len(columns) > 3 or len(heats) < 3 else 3
    down = -(-len(heats) // across)
    lines = max((text.count("\n") + 1 for heat in heats for line in heat.text for text in line), default=1)
    tall = (0.24 + 0.17 * lines) * len(rows) + 0.75
    figure = blank(0.75 + down * tall + 0.2 * bool(note), title)
    grid = figure.subplots(down, across, squeeze=False)
    known = np.concatenate([np.ravel(heat.values) for heat in heats])
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    shades = sns.light_palette(BLUE, as_cmap=True)
    annotated = len(columns) <= ANNOTATE
    for k, ax in enumerate(grid.flat):
        if k >= len(heats):
            ax.set_axis_off()
            continue
        heat = heats[k]
        sns.heatmap(
            heat.values,
            ax=ax,
            mask=~np.isfinite(heat.values),
            cmap=shades.reversed() if lower else shades,
            vmin=low,
            vmax=high,
            linewidths=1.5,
            linecolor="white",
            cbar=not annotated,
            xticklabels=False,
            yticklabels=False,
        )
        shade = ax.collections[0].to_rgba
        size = 9.2 if len(columns) <= 9 else 8
        for row, column in np.argwhere(np.isfinite(heat.values)) if annotated else ():
            ink = _readable(shade(heat.values[row, column]))
            middle = {"ha": "center", "va": "center", "size": size, "linespacing": 1.25}
            ax.text(column + 0.5, row + 0.5, heat.text[row][column], color=ink, **middle)
        for row, column in np.argwhere(~np.isfinite(heat.values)):
            ax.add_patch(Rectangle((column + 0.02, row + 0.03), 0.96, 0.94, **MISSING))
            if annotated and heat.text[row][column]:
                box = {"facecolor": "#f3f3f3", "edgecolor": "none", "pad": 1.5}
                words = heat.text[row][column]
                ax.text(column + 0.5, row + 0.5, words, ha="center", va="center", size=8.5, color=INK, bbox=box)
        for row, column in heat.picked:
            frame = {"fill": False, "edgecolor": "black", "linewidth": 2.2, "clip_on": False, "zorder": 5}
            ax.add_patch(Rectangle((column + 0.02, row + 0.03), 0.96, 0.94, **frame))
        ax.tick_params(length=0)
        ax.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=45 if _wide(columns) else 0)
        ax.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
        ax.set(xlabel=axes[0], ylabel=axes[1] if k % across == 0 else "", title=heat.title)
    if note:
        figure.supxlabel(note, fontsize=9, color=INK)
    return figure


def _readable(colour: Sequence[float]) -> str:
    """Black or white, whichever stands out more: the contrast is 4.5 or better on any colour (WCAG 2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def _wide(names: Sequence[str]) -> bool:
    return sum(map(len, names)) > 90


def _logarithmic(values: np.ndarray, ratio: float = 4) -> bool:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() / values.min() > ratio)


def _plain(value: float, _: int = 0) -> str:
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _log_axis(ax, base: int = 10, ticks: Sequence[float] | None = None) -> None:
    ax.set_xscale("log", base=base)
    if ticks is not None and len(ticks) <= 12:
        ax.set_xticks(list(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(_plain))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _reference(ax, twin: Line | None, teacher: tuple[float, float] | None) -> None:
    """The twin as a grey line with its band, the teacher as a line, and as a band where there are several."""
    if twin is not None:
        colour = STYLE[TWIN][0]
        ax.plot(twin.x, twin.mean, "--", color=colour, linewidth=1.6)
        ax.fill_between(twin.x, *_band(twin), color=colour, alpha=0.16, linewidth=0)
    if teacher is not None:
        ax.axhspan(*teacher, color=STYLE[TEACHER][0], alpha=0.16, linewidth=0)
        ax.axhline(sum(teacher) / 2, color=STYLE[TEACHER][0], linestyle=":", linewidth=1.8)


def _band(line: Line) -> tuple[np.ndarray, np.ndarray]:
    return line.mean - np.nan_to_num(line.std), line.mean + np.nan_to_num(line.std)


def _limits(lines: Sequence[Line], teachers: Sequence[tuple[float, float]]) -> tuple[float, float, bool]:
    """Return the ends of the axis, and whether the teachers lie on it: far off they would press the curves flat."""
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
    twins: Mapping[str, Line],
    teachers: Mapping[str, tuple[float, float]],
    axes: tuple[str, str],
    title: str,
) -> Figure:
    """A measure along one setting, a line for each value of another; bands, of few lines: one deviation over seeds.

    Args:
        slices: title of a panel ("" for a single one) -> label of a line -> line.
        twins, teachers: title of a panel -> reference line; lowest and highest of the panel's teachers.
        axes: what lies along, and the measure.
    """
    across = len(slices) if len(slices) <= 3 else 2 if len(slices) == 4 else 3
    down = -(-len(slices) // across)
    figure = blank(0.9 + (3.3 if down == 1 else 2.6) * down, title)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    labels = list(dict.fromkeys(label for lines in slices.values() for label in lines))
    colours = dict(zip(labels, _ordered(len(labels)), strict=True))
    everything = [line for lines in slices.values() for line in lines.values()]
    low, high, on_axis = _limits([*everything, *twins.values()], list(teachers.values()))
    for ax, (panel, lines) in zip(grid.flat, slices.items(), strict=False):
        for label, line in lines.items():
            k = labels.index(label)
            if len(labels) <= BANDS:
                ax.fill_between(line.x, *_band(line), color=colours[label], alpha=0.13, linewidth=0)
            mark = {"marker": MARKERS[k % len(MARKERS)], "markersize": 6, "markeredgecolor": "white"}
            ax.plot(line.x, line.mean, color=colours[label], linewidth=1.8, **mark)
        ticks = np.unique(np.concatenate([line.x for line in lines.values()]))
        if _logarithmic(ticks):
            _log_axis(ax, 2, ticks)
        elif len(ticks) <= 12:
            ax.set_xticks(ticks, [_plain(tick) for tick in ticks])
        _reference(ax, twins.get(panel), teachers.get(panel) if on_axis else None)
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
    if twins:
        handles.append(Line2D([], [], color=STYLE[TWIN][0], linestyle="--", label=TWIN))
    if teachers and on_axis:
        handles.append(Line2D([], [], color=STYLE[TEACHER][0], linestyle=":", linewidth=1.8, label=TEACHER))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    return figure


def _ordered(count: int) -> list:
    """Colours in an order that survives colour blindness: they go from light to dark. One is the student's own."""
    return [STYLE[STUDENT][0]] if count == 1 else sns.color_palette("flare", count)


@styled
def scatter(
    x: np.ndarray, y: np.ndarray, accuracy: np.ndarray, picked: Sequence[int], axes: tuple[str, str], title: str
) -> Figure:
    """Cells of a search that fill no grid: where they lie, and by shade how accurate they are. Arrays [N]."""
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
    if _logarithmic(x):
        _log_axis(ax)
    if _logarithmic(y, 20):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(_plain))
        ax.yaxis.set_minor_formatter(NullFormatter())
    figure.colorbar(drawn, ax=ax, label="test accuracy (%), mean over seeds")
    ax.set(xlabel=axes[0], ylabel=axes[1])
    ax.grid()
    return figure


@styled
def dots(
    names: Sequence[str],
    student: Line,
    twin: Line,
    teacher: np.ndarray,
    picked: Sequence[int],
    measure: str,
    title: str,
) -> Figure:
    """One line a cell: student, twin and teacher side by side. ``x`` of the lines is the place, 0 at the top."""
    count = len(names)
    figure = blank(1.3 + 0.34 * max(count, 2), title)
    ax = figure.subplots()
    place = np.arange(count)
    for label, line in ((TWIN, twin), (STUDENT, student)):
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


@styled
def confusions(student: np.ndarray, twin: np.ndarray | None, classes: Sequence[str], title: str) -> Figure:
    """Two confusion matrices in percent of the true class, and their difference in points. Counts [K, K], rows true."""
    models = {STUDENT: student} if twin is None else {STUDENT: student, TWIN: twin}
    shares = {label: rows_to_percent(counts) for label, counts in models.items()}
    figure = blank(3.9 if len(classes) <= ANNOTATE else 4.3, title)
    axes = np.atleast_1d(figure.subplots(1, 1 if twin is None else 3))
    for ax, (label, percent) in zip(axes, shares.items(), strict=False):
        draw_shares(ax, percent, classes, label, first=ax is axes[0])
        ax.set_title("picked cell (%)" if label == STUDENT else "labels only (%)")
    if twin is not None:
        draw_differences(axes[2:], [shares[STUDENT] - shares[TWIN]], classes, first=False)
        axes[2].set_title("difference (points)")
    return figure


@styled
def fronts(panels: Sequence[Front], key: Sequence[str], title: str) -> Figure:
    """Accuracy against costs; a line joins the points that nothing beats in both.

    Args:
        key: what the names of the points stand for, one line each.
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
        if _logarithmic(panel.cost, 3):
            _log_axis(ax)
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
    line = Line2D([], [], color=INK, linewidth=1.1, label="front: nothing is both cheaper and better")
    meaning = "\n".join("      ".join(key[k : k + 2]) for k in range(0, len(key), 2))
    below = {"loc": "outside lower center", "ncols": 4, "frameon": False, "title_fontsize": 9}
    figure.legend(handles=[*handles.values(), line], title=meaning, **below)
    figure.get_layout_engine().execute(figure)  # names need the places of the points
    for ax, panel in zip(axes, panels, strict=True):
        _label(ax, panel)
    return figure


def _label(ax, panel: Front) -> None:
    """Write each name beside its point where it covers neither a point nor another name, if there is such a place."""
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
