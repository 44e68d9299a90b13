"""Grids of test images: predictions, disagreements, attention maps."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from kd.evaluation.metrics import probabilities
from kd.report.figures.style import (
    ALPHA,
    COLUMNS,
    DPI,
    FAINT,
    HEAT,
    INK,
    LUMINANCE,
    RIGHT,
    WIDTH,
    WRONG,
    names,
    styled,
)


def _grid(count: int, title: str, lines: int) -> tuple[Figure, list]:
    """Return axes for ``count`` square images with room for ``lines`` of text above each; positions are in inches."""
    gap, head, line = 0.08, 0.3, 0.185
    side = (WIDTH - gap * (COLUMNS + 1)) / COLUMNS
    rows = -(-count // COLUMNS)
    pitch = side + lines * line + 0.12
    height = head + rows * pitch
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.text(0.5, 1 - 0.06 / height, title, ha="center", va="top", fontsize=12)
    left = (WIDTH - min(count, COLUMNS) * (side + gap) + gap) / 2
    axes = []
    for k in range(count):
        row, column = divmod(k, COLUMNS)
        x, y = left + column * (side + gap), height - head - (row + 1) * pitch + gap
        axes.append(figure.add_axes((x / WIDTH, y / height, side / WIDTH, side / height)))
        axes[-1].set_axis_off()
        axes[-1].set_anchor("N")
    return figure, axes


def _show(ax, image: np.ndarray) -> None:
    """Draw one image, uint8 [H, W, C], C 1 or 3."""
    if image.shape[-1] == 1:
        ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    else:
        ax.imshow(image, interpolation="bilinear")


def _caption(ax, lines: Sequence[tuple[str, str]]) -> None:
    """Write ``(text, colour)`` lines above an image; a title of matplotlib has only one colour."""
    for k, (text, colour) in enumerate(reversed(lines)):
        ax.annotate(
            _left_to_right(text),
            (0.5, 1),
            (0, 3 + 13 * k),
            "axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=colour,
            fontsize=9.5,
        )


def _left_to_right(text: str) -> str:
    """Keep the order "mark, name, number" where an Arabic or Hebrew name would reverse the line."""
    reverses = any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
    return text if not reverses else f"\u200e{text}"


def _mark(right: bool) -> tuple[str, str]:
    return ("✓", RIGHT) if right else ("✗", WRONG)


@styled
def prediction_grid(
    images: np.ndarray, target: np.ndarray, logits: np.ndarray, classes: Sequence[str], label: str
) -> Figure:
    """Draw images with the prediction above each: ✓ and green if it is right, ✗ and red if it is wrong.

    Args:
        images: uint8 [M, H, W, C], C 1 or 3. target: [M]. logits: [M, K].
    """
    figure, axes = _grid(len(images), f"{len(images)} test images drawn at random: {label}", 2)
    shown, predicted, probability = names(classes, 14), np.argmax(logits, 1), probabilities(logits).max(1)
    for ax, image, true, guess, p in zip(axes, images, target, predicted, probability, strict=True):
        mark, colour = _mark(true == guess)
        _show(ax, image)
        _caption(ax, [(f"{mark} {shown[guess]} {100 * p:.0f} %", colour), (f"true: {shown[true]}", INK)])
    return figure


@styled
def disagreement_grid(
    images: np.ndarray,
    target: np.ndarray,
    teacher: np.ndarray,
    student: np.ndarray,
    classes: Sequence[str],
    total: int,
    which: str = "on which student and teacher disagree",
) -> Figure:
    """Draw images on which student and teacher disagree, with both predictions. Arrays as in ``prediction_grid``.

    Args:
        total: the number of test images on which they disagree. which: says which these are.
    """
    shown_of_total = f"{len(images)} of the {total:,}" if total > len(images) else f"The {total}"
    figure, axes = _grid(len(images), f"{shown_of_total} test image{'s' * (total != 1)} {which}", 3)
    shown = names(classes, 13)
    for ax, image, true, t, s in zip(axes, images, target, np.argmax(teacher, 1), np.argmax(student, 1), strict=True):
        _show(ax, image)
        lines = [(f"true: {shown[true]}", INK)]
        for role, guess in (("teacher", t), ("student", s)):
            mark, colour = _mark(true == guess)
            lines.append((f"{mark} {role}: {shown[guess]}", colour))
        _caption(ax, lines)
    return figure


@styled
def attention_maps(
    images: np.ndarray, target: np.ndarray, logits: np.ndarray, classes: Sequence[str], maps: Mapping[str, np.ndarray]
) -> Figure:
    """Draw one row per image: the prediction, the image, and the map of each gate overlaid in colour.

    A gate has one colour scale for all images, drawn below its column. It spans the gate's values without the lowest
    and the highest percent, and at least 0.05, so that a gate that lets all positions through alike has one colour.

    Args:
        images, target, logits: as in ``prediction_grid``. maps: name of the gate -> [M, h, w], stretched over the
            image.
    """
    count, columns = len(images), 1 + len(maps)
    gap, words, head, top, foot = 0.08, 1.6, 0.3, 0.4, 0.42  # inches
    side = min(1.35, (WIDTH - words - gap * (columns + 1)) / columns)
    height = head + top + count * (side + gap) + foot
    start = (WIDTH - words - columns * (side + gap)) / 2 + words
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    title = "What the spatial gates of the teacher let through"
    figure.text(0.5, 1 - 0.06 / height, title, ha="center", va="top", fontsize=12)

    def place(row: int, column: int):
        x, y = start + column * (side + gap), height - head - top - (row + 1) * (side + gap) + gap
        ax = figure.add_axes((x / WIDTH, y / height, side / WIDTH, side / height))
        ax.set_axis_off()
        return ax

    shown, predicted, probability = names(classes, 14), np.argmax(logits, 1), probabilities(logits).max(1)
    for row, (image, true, guess) in enumerate(zip(images, target, predicted, strict=True)):
        ax = place(row, 0)
        _show(ax, image)
        mark, colour = _mark(true == guess)
        confidence = f"{100 * probability[row]:.0f} %"
        _beside(ax, [(f"{mark} {shown[guess]}", colour), (confidence, colour), (f"true: {shown[true]}", INK)])
        if row == 0:
            _caption(ax, [("image", INK)])
    for column, (name, values) in enumerate(maps.items(), 1):
        low, high = _range(values)
        for row, image in enumerate(images):
            ax = place(row, column)
            _overlay(ax, image, values[row], low, high)
            if row == 0:
                _caption(ax, [(name, INK), (f"{values.shape[1]}×{values.shape[2]}", FAINT)])
        left = (start + column * (side + gap)) / WIDTH
        bar = figure.add_axes((left, 0.27 / height, side / WIDTH, 0.1 / height), facecolor="#c4c4c4")
        bar.imshow(np.linspace(0, 1, 256)[None], cmap=HEAT, alpha=ALPHA, aspect="auto")
        bar.spines[:].set_visible(False)
        bar.set_yticks([])
        bar.set_xticks([0, 255], [f"{low:.2f}", f"{high:.2f}"])
        bar.tick_params(length=0, pad=2)
        for text, end in zip(bar.get_xticklabels(), ("left", "right"), strict=True):
            text.set_ha(end)
    return figure


def _range(values: np.ndarray, least: float = 0.05) -> tuple[float, float]:
    """Return the lowest and the highest value of a gate's colour scale, at least ``least`` apart."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, (0.01, 0.99)).astype(float) if finite.size else (0.0, 1.0)
    spare = max(0.0, least - (high - low)) / 2
    shift = max(0.0, spare - low)  # a gate's values are not negative
    return low - spare + shift, high + spare + shift


def _overlay(ax, image: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    """Draw the image in grey, overlaid with ``values`` [h, w] in colour."""
    grey = image @ np.array(LUMINANCE) if image.shape[-1] == 3 else image[..., 0]
    ax.imshow(grey, cmap="gray", vmin=-110, vmax=255, interpolation="bilinear")  # on black the colours would not show
    whole = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    heat = {"cmap": HEAT, "vmin": low, "vmax": high, "alpha": ALPHA}
    ax.imshow(values, extent=whole, interpolation="bilinear", interpolation_stage="data", **heat)


def _beside(ax, lines: Sequence[tuple[str, str]]) -> None:
    """Write ``(text, colour)`` lines to the left of an image."""
    for k, (text, colour) in enumerate(lines):
        ax.annotate(
            _left_to_right(text),
            (0, 0.5),
            (-7, 13 * ((len(lines) - 1) / 2 - k)),
            "axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
            color=colour,
            fontsize=9.5,
        )
