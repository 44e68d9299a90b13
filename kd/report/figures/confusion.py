"""Confusion matrices and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from kd.report.figures.style import (
    ANNOTATE,
    BASELINE,
    DIFFERENCE,
    MATRIX_NAMES,
    STUDENT,
    blank,
    names,
    style_of,
    styled,
)
from kd.report.figures.sweep_curves import NUMBERED_COLUMNS


def rows_to_percent(confusion: np.ndarray) -> np.ndarray:
    """Return counts [K, K], rows the true class, as percent of each row; a class without images stays 0."""
    confusion = np.asarray(confusion, np.float64)
    return 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)


def draw_heat(
    ax, values: np.ndarray, classes: Sequence[str], form: str, bar: str, first: bool, extend: str = "neither", **colour
) -> None:
    """Draw one matrix. ``form``: format of a cell. ``bar``: label of the colour bar that large matrices get instead."""
    count = len(classes)
    annotated = count <= ANNOTATE
    ticks = names(classes, 14) if count <= MATRIX_NAMES else None
    text = np.array([[format(v, form) for v in row] for row in values]) if annotated else None
    if annotated:
        text = np.where((text == "-0") | (text == "+0") | (text == "-0.0") | (text == "+0.0"), "0", text)
    sns.heatmap(
        values,
        ax=ax,
        annot=text,
        fmt="",
        annot_kws={"size": 9.5 if count <= 8 else 9},
        square=True,
        linewidths=0.5 if annotated else 0,
        linecolor="#f2f2f2",
        cbar=not annotated,
        cbar_kws={"label": bar, "shrink": 0.7, "location": "bottom", "pad": 0.02, "extend": extend},
        xticklabels=False,
        yticklabels=False,
        **colour,
    )
    ax.tick_params(length=0)
    if ticks:
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if annotated else {"rotation": 90}
        ax.set_xticks(np.arange(count) + 0.5, ticks, **slanted)
        ax.set_yticks(np.arange(count) + 0.5, ticks if first else [""] * count)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class" if first else "")


@styled
def confusion(counts: np.ndarray, classes: Sequence[str], label: str) -> Figure:
    """Draw counts and, beside them, percent of each true class. ``counts`` [K, K]: rows true, columns predicted."""
    counts = np.asarray(counts)
    figure = blank(4.8, f"Confusion matrix: {label}")
    left, right = figure.subplots(1, 2)
    shades = sns.light_palette(style_of(label)[0], as_cmap=True)
    draw_heat(left, counts, classes, "d", "images", True, cmap=shades, vmin=0)
    left.set_title("number of test images")
    draw_shares(right, rows_to_percent(counts), classes, label, first=False)
    right.set_title("% of the true class")
    return figure


def draw_shares(ax, percent: np.ndarray, classes: Sequence[str], label: str, first: bool) -> None:
    """Draw ``rows_to_percent`` of a model's matrix in the colour of its ``label``. ``first``: name the classes."""
    form = ".1f" if len(classes) <= 6 else ".0f"
    shades = sns.light_palette(style_of(label)[0], as_cmap=True)
    draw_heat(ax, percent, classes, form, "% of the true class", first, cmap=shades, vmin=0, vmax=100)


def draw_differences(axes: Sequence, differences: Sequence[np.ndarray], classes: Sequence[str], first: bool) -> None:
    """Draw student minus another model, in points, on one scale centred on 0: red is more for the student."""
    sizes = np.abs(np.concatenate([np.ravel(d) for d in differences]))
    # among many small classes one always changes by 60 points, which would leave all others pale
    bound = float(np.quantile(sizes[sizes > 0], 1 if len(classes) <= ANNOTATE else 0.95)) if sizes.any() else 1.0
    form = "+.1f" if len(classes) <= 6 else "+.0f"
    scale = {"cmap": DIFFERENCE, "vmin": -bound, "vmax": bound}
    for k, (ax, difference) in enumerate(zip(axes, differences, strict=True)):
        draw_heat(ax, difference, classes, form, "points", first and k == 0, "both", **scale)


@styled
def confusion_difference(differences: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Draw differences of row-normalised matrices, ``{title: [K, K]}`` in points, on one scale centred on 0."""
    figure = blank(5.0, "Where the student differs, in points of the true class (diagonal: + is better; elsewhere −)")
    axes = np.atleast_1d(figure.subplots(1, len(differences)))
    draw_differences(axes, list(differences.values()), classes, first=True)
    for ax, title in zip(axes, differences, strict=True):
        ax.set_title(title)
    return figure


@styled
def confusions(student: np.ndarray, baseline: np.ndarray | None, classes: Sequence[str], title: str) -> Figure:
    """Draw student and baseline in percent of the true class, and their difference. Counts [K, K], rows true."""
    models = {STUDENT: student} if baseline is None else {STUDENT: student, BASELINE: baseline}
    shares = {label: rows_to_percent(counts) for label, counts in models.items()}
    figure = blank(3.9 if len(classes) <= NUMBERED_COLUMNS else 4.3, title)
    axes = np.atleast_1d(figure.subplots(1, 1 if baseline is None else 3))
    for ax, (label, percent) in zip(axes, shares.items(), strict=False):
        draw_shares(ax, percent, classes, label, first=ax is axes[0])
        ax.set_title("picked cell (%)" if label == STUDENT else "baseline (%)")
    if baseline is not None:
        draw_differences(axes[2:], [shares[STUDENT] - shares[BASELINE]], classes, first=False)
        axes[2].set_title("difference (points)")
    return figure
