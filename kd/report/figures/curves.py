"""Curves and dots of one run: training, scores per class, reliability, overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kd.evaluation.metrics import BINS, confidence_bins
from kd.report.figures.style import INK, NAMES, blank, names, style_of, styled


@styled
def training_curves(curves: Mapping[str, Mapping[str, np.ndarray]], best_epoch: Mapping[str, int]) -> Figure:
    """Draw loss and accuracy by epoch; a star marks the epoch that was kept.

    Args:
        curves: label -> {"epoch", "loss", "val_loss", "train_accuracy", "val_accuracy"}, arrays [E]; NaN leaves a gap.
    """
    figure = blank(4.1, "Training")
    left, right = figure.subplots(1, 2)
    for label, curve in curves.items():
        colour, marker = style_of(label)
        dots = {"marker": marker, "markersize": 4} if len(curve["epoch"]) < 4 else {}
        epoch = curve["epoch"]
        left.plot(epoch, curve["loss"], "--", color=colour, linewidth=1.3, **dots)
        left.plot(epoch, curve["val_loss"], "-", color=colour, linewidth=1.8, **dots)
        right.plot(epoch, 100 * curve["train_accuracy"], "--", color=colour, linewidth=1.3, **dots)
        right.plot(epoch, 100 * curve["val_accuracy"], "-", color=colour, linewidth=1.8, **dots)
        best = np.flatnonzero(epoch == best_epoch.get(label))
        right.plot(
            epoch[best], 100 * curve["val_accuracy"][best], "*", color=colour, markersize=13, markeredgecolor="white"
        )
    losses = np.concatenate([np.r_[c["loss"], c["val_loss"]] for c in curves.values()])
    losses = losses[np.isfinite(losses)]
    if losses.size and losses.min() > 0 and losses.max() / losses.min() > 4:
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
    left.set(title="loss (training: own objective; validation: NLL)", xlabel="epoch", ylabel="loss")
    right.set(title="accuracy", xlabel="epoch", ylabel="accuracy (%)")
    for ax in (left, right):
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], color=style_of(label)[0], linewidth=2.5, label=label) for label in curves]
    handles += [
        Line2D([], [], color="black", linewidth=1.8, label="validation"),
        Line2D([], [], color="black", linewidth=1.3, linestyle="--", label="training"),
        Line2D([], [], color="black", marker="*", markersize=10, linewidth=0, label="epoch kept"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, columnspacing=1.4)
    return figure


@styled
def per_class_scores(scores: Mapping[str, np.ndarray], classes: Sequence[str], metric: str = "F1") -> Figure:
    """Draw a dot per class and model, sorted by the first model. ``scores``: label -> [K] in [0, 1], NaN for none."""
    count = len(classes)
    first = np.asarray(next(iter(scores.values())), float)
    order = np.argsort(np.where(np.isnan(first), -1, first), kind="stable")
    figure = blank(max(1.5 + 0.32 * min(count, 22), 2.6) if count <= NAMES else 5.5, f"{metric} by class")
    ax = figure.subplots()
    place = np.arange(count)
    stacked = 100 * np.array([np.asarray(s, float)[order] for s in scores.values()])
    if count <= NAMES:
        none = np.isnan(stacked).all(0)
        some = stacked[:, ~none]
        ax.hlines(place[~none], np.nanmin(some, 0), np.nanmax(some, 0), color="#c9c9c9", linewidth=2, zorder=1)
        for y in place[none]:
            ax.text(0.01, y, "no test image", transform=ax.get_yaxis_transform(), va="center", color=INK)
    size = 60 if count <= NAMES else 16
    for label, values in zip(scores, stacked, strict=True):
        colour, marker = style_of(label)
        ax.scatter(values, place, size, color=colour, marker=marker, label=label, edgecolor="white", linewidth=0.6)
    if count <= NAMES:
        shown = names(classes, 26)
        ax.set_yticks(place, [shown[k] for k in order])
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{count} classes, sorted by the {next(iter(scores))}")
    ax.set_ylim(-0.7, count - 0.3)
    ax.grid(axis="x")
    ax.set_xlabel(f"{metric} (%)")
    figure.legend(loc="outside lower center", ncols=len(scores), frameon=False)
    return figure


@styled
def reliability(target: np.ndarray, logits: Mapping[str, np.ndarray], ece: Mapping[str, float]) -> Figure:
    """Draw accuracy against confidence, and below it the histogram of confidence. Logits [N, K], ECE in [0, 1]."""
    least = max(1, min(10, len(target) // 100))
    left_out = f" (not drawn: bins of fewer than {least} images)" if least > 1 else ""
    figure = blank(5.0, f"Reliability, {BINS} bins of confidence{left_out}")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 100], [0, 100], color="#b0b0b0", linewidth=1, linestyle=":", label="perfectly calibrated")
    for label, values in logits.items():
        colour, marker = style_of(label)
        bins = confidence_bins(values, target)
        name = f"{label}: ECE {100 * ece[label]:.2f} %"
        kept = bins.images >= least
        top.plot(
            100 * bins.confidence[kept] / bins.images[kept],
            100 * bins.right[kept] / bins.images[kept],
            color=colour,
            marker=marker,
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=name,
        )
        bottom.stairs(100 * bins.images / len(target), np.linspace(0, 100, BINS + 1), color=colour, linewidth=1.6)
    top.set(ylabel="accuracy (%)", ylim=(0, 102), xlim=(0, 102))
    bottom.set(xlabel="confidence of the prediction (%)", ylabel="images (%)", ylim=(0, None))
    for ax in (top, bottom):
        ax.grid()
    top.legend(loc="lower right")
    return figure


@styled
def overview(points: Mapping[str, Mapping[str, float]], batch: str) -> Figure:
    """Draw accuracy against parameters and against latency, on log axes.

    Args:
        points: label -> {"accuracy", "error" (one standard error), "params", "latency" (ms), "calm"}; accuracy in
            [0, 1]. A latency measured on a busy machine has a hollow marker.
        batch: how the latency was measured, for the axis.
    """
    figure = blank(3.1, "Accuracy against cost (bars: one standard error of the test accuracy)")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, key, unit in ((axes[0], "params", 1e-6), (axes[1], "latency", 1.0)):
        for label, point in points.items():
            colour, marker = style_of(label)
            ax.errorbar(
                max(point[key] * unit, 1e-9),
                100 * point["accuracy"],
                100 * point["error"],
                color=colour,
                marker=marker,
                markersize=9,
                markerfacecolor=colour if key == "params" or point["calm"] else "none",
                capsize=3,
                linewidth=1.2,
                linestyle="none",
                label=label,
            )
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        middle, half = np.sqrt(low * high), max(np.sqrt(high / low) * 1.3, 3.3)
        ax.set_xlim(middle / half, middle * half)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid()
    axes[0].set(xlabel="parameters (millions)", ylabel="test accuracy (%)")
    busy = "" if all(point["calm"] for point in points.values()) else "; hollow: on a busy machine"
    axes[1].set(xlabel=f"latency (ms, {batch}, median{busy})")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(points), frameon=False)
    return figure
