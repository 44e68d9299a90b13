"""The figure of a diagnosis: accuracy from training views to test, what was gained and lost, shares of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd.report.figures.style import BASELINE, INK, STUDENT, TEACHER, blank, shorten, style_of, styled

SPLITS = {"views": "training\nviews", "val": "validation", "test": "test"}
SHADES = ("#6f6f6f", "#c44e52", "#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860")  # of terms, the labels' first


@styled
def diagnosis_panels(figures: Mapping[str, Any]) -> Figure:
    """Draw the figures of ``kd.diagnose.figures.measure``; a panel that the run has no figures for is left out."""
    gain, gradients = figures["gain"], figures["gradients"]
    panels = [lambda ax: _accuracies(ax, figures["accuracy"])]
    if gain and "can_gain" in gain:
        panels.append(lambda ax: _gains(ax, gain))
    if gradients:
        panels.append(lambda ax: _shares(ax, gradients, figures["objective"]["label_terms"]))
    figure = blank(3.6, "Does the teacher teach?" if figures["answers"] else "Does the method help?")
    for ax, draw in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        draw(ax)
    return figure


def _accuracies(ax: Axes, scores: Mapping[str, Mapping[str, float | None]]) -> None:
    for role, of in scores.items():
        colour, marker = style_of(role)
        values = [np.nan if of[split] is None else 100 * of[split] for split in SPLITS]
        ax.plot(range(len(SPLITS)), values, color=colour, marker=marker, markeredgecolor="white", label=role)
    ax.set_xticks(range(len(SPLITS)), SPLITS.values())
    ax.set(title="accuracy", ylabel="accuracy (%)", xlim=(-0.3, len(SPLITS) - 0.7))
    ax.grid(axis="y")
    ax.legend(frameon=False, loc="best")


def _gains(ax: Axes, gain: Mapping[str, Any]) -> None:
    """Draw two bars: what could be gained and was, and what could be lost and was."""
    student, teacher, baseline = (style_of(role)[0] for role in (STUDENT, TEACHER, BASELINE))
    left = [("won", gain["gained"], student), ("not won", gain["can_gain"] - gain["gained"], teacher)]
    with_teacher = gain["lost_with_teacher"]
    right = [("teacher too", with_teacher, teacher), ("alone", gain["lost"] - with_teacher, baseline)]
    bars = {"teacher right,\nbaseline wrong": left, "baseline right,\nstudent wrong": right}
    most = max(gain["can_gain"], gain["lost"], 1)
    for place, parts in enumerate(bars.values()):
        bottom = 0
        for words, count, colour in parts:
            ax.bar(place, count, 0.75, bottom, color=colour)
            if count > 0.11 * most:  # room for two lines
                text = f"{words}\n{count:,}"
                ax.text(place, bottom + count / 2, text, ha="center", va="center", color="white", linespacing=1.1)
            bottom += count
        ax.text(place, bottom, f"{bottom:,}", ha="center", va="bottom", color=INK)
    ax.set_xticks(range(len(bars)), bars)
    ax.set(title="against the baseline", ylabel="test images", ylim=(0, 1.12 * most), xlim=(-0.5, 1.5))


def _shares(ax: Axes, gradients: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Draw a stacked bar of the terms' shares for each point of the training."""
    names = list(dict.fromkeys(name for at in gradients for name in at["terms"]))
    names.sort(key=lambda name: name not in labels)
    bottom = np.zeros(len(gradients))
    for number, name in enumerate(names):
        values = np.array([100 * (at["terms"].get(name, {}).get("share") or 0.0) for at in gradients])
        colour = SHADES[number % len(SHADES)] if number else SHADES[0]
        ax.bar(range(len(gradients)), values, 0.6, bottom, color=colour, label=shorten(name, 18))
        bottom += values
    ax.set_xticks(range(len(gradients)), [f"{100 * at['progress']:.0f} %" for at in gradients])
    ax.set(
        title="share of the gradient",
        ylabel="share (%)",
        xlabel="of the training",
        ylim=(0, 130),
        yticks=range(0, 101, 20),
    )
    ax.legend(frameon=False, loc="upper center", ncols=2)
