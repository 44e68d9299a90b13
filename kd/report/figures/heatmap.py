"""Heat maps of a sweep over two settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kd.report.figures.style import BLUE, INK, blank, styled
from kd.report.figures.sweep_curves import NUMBERED_COLUMNS

MISSING = {"facecolor": "#f3f3f3", "edgecolor": "#bdbdbd", "hatch": "///", "linewidth": 0}


@dataclass(frozen=True)
class Heat:
    """One matrix, rows x columns. ``text``: the text in each cell, lines separated by a newline."""

    title: str
    values: np.ndarray  # [R, C]
    text: Sequence[Sequence[str]]
    picked: Sequence[tuple[int, int]] = ()  # (row, column) of each cell that validation picked


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
    """Draw matrices on one colour scale, darker is better. Missing cells are hatched, picked ones outlined.

    Args:
        axes: labels of the columns and of the rows. note: a line below. lower: whether lower numbers are better.
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
    annotated = len(columns) <= NUMBERED_COLUMNS
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
            ink = readable_ink(shade(heat.values[row, column]))
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


def readable_ink(colour: Sequence[float]) -> str:
    """Return black or white, whichever has more contrast: 4.5 or better on any colour (WCAG 2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def _wide(names: Sequence[str]) -> bool:
    return sum(map(len, names)) > 90
