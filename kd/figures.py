"""Arrays -> figures. The only file that knows seaborn and matplotlib.

Every function takes arrays and returns a ``Figure`` that belongs to nobody (no pyplot state: nothing to close, no
display needed). Models come as ``{label: array}``; a label keeps its colour and marker in all figures. Figures are
9 inches wide with text of 9 points or more, so that they read well when a page shows them 850 pixels wide.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from kd.evaluate import BINS, confidence_bins, probabilities

WIDTH = 9.0  # inches
DPI = 110
ANNOTATE = 12  # classes: with more, numbers no longer fit into the cells of a confusion matrix
MATRIX_NAMES, NAMES = 20, 30  # classes: with more, names no longer fit beside a matrix, on an axis
COLUMNS = 5  # pictures in a row of a grid
DIFFERENCE = "RdBu_r"  # of matrices: red, the student's colour, is more of the student
HEAT, ALPHA = "viridis", 0.6  # of attention maps: even steps look even, to the colour-blind too

_PALETTE = sns.color_palette("colorblind")
STYLE = {  # label -> colour, marker
    "teacher": (_PALETTE[0], "o"),
    "student": (_PALETTE[3], "s"),
    "student, labels only": ("#6f6f6f", "D"),
}
RIGHT, WRONG, INK = (
    "#00694b",
    "#b03a00",
    "#262626",
)  # the palette's green and vermilion, darkened until they carry text on white
FAINT = "#6f6f6f"
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue
# Fonts that other scripts need, where the machine has them; matplotlib's own DejaVu Sans has no CJK and no Indic.
_OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "WenQuanYi Zen Hei", "Arial Unicode MS"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic", "Nirmala UI"),
)


@functools.cache
def _fonts() -> dict[str, str]:
    """Family -> file of the fonts to draw with, the first one first."""
    found = {"DejaVu Sans": font_manager.findfont("DejaVu Sans")}
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    return found | {name: installed[name] for name in _OTHER_FONTS if name in installed}


def _rc() -> dict[str, object]:
    return {
        **sns.axes_style("ticks"),
        "font.family": list(_fonts()),
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.labelsize": 9.5,
        "xtick.labelsize": 9.2,
        "ytick.labelsize": 9.2,
        "legend.fontsize": 9.2,
        "figure.titlesize": 12,
        "text.parse_math": False,  # a class may be called "$5 note"
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#e3e3e3",
    }


def styled(draw):
    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(_rc()):
            return draw(*args, **kwargs)

    return wrapper


def blank(height: float, title: str) -> Figure:
    # It gets a canvas when it is saved, not before: seaborn draws every heat map in passing, which doubles the time.
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.suptitle(title)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG, in full colour: a palette small enough to matter shows in the photographs."""
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(_rc()):
        if any(ax.get_aspect() == 1 for ax in figure.axes) and figure.get_layout_engine():
            figure.get_layout_engine().execute(figure)  # square axes find their place at the second attempt
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    image.save(path, dpi=(DPI, DPI), compress_level=4)  # optimize=True: 3 % smaller, eight times as long


# --- names ---------------------------------------------------------------------------------------------------------


def can_draw(text: str) -> bool:
    """Whether the fonts of this machine have a glyph for every character of ``text``."""
    if text.isascii():
        return True
    fonts = [font_manager.get_font(file) for file in _fonts().values()]
    return all(character.isspace() or any(f.get_char_index(ord(character)) for f in fonts) for character in text)


def shorten(text: str, width: int) -> str:
    """Cut ``text`` to ``width`` columns, a wide (CJK) character counting two, and end it with an ellipsis."""
    text = " ".join(text.split())
    used = 0
    for position, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > width:
            return text[: max(position - 1, 1)].rstrip() + "…"
    return text


def names(classes: Sequence[str], width: int) -> list[str]:
    """Return what stands for each class in a figure: its name, shortened; "#3" where no font can draw it."""
    return [shorten(name, width) if can_draw(name) else f"#{k}" for k, name in enumerate(classes)]


def _style(label: str) -> tuple[object, str]:
    return STYLE.get(label, (_PALETTE[2], "^"))


# --- confusion -----------------------------------------------------------------------------------------------------


def rows_to_percent(confusion: np.ndarray) -> np.ndarray:
    """[K, K] counts, rows the true class -> percent of each row; a class without pictures stays 0."""
    confusion = np.asarray(confusion, np.float64)
    return 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)


def _heat(
    ax, values: np.ndarray, classes: Sequence[str], form: str, bar: str, first: bool, extend: str = "neither", **colour
) -> None:
    """One matrix; ``form`` formats a cell, ``bar`` names the colour bar that stands where numbers cannot."""
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
    """Counts and, beside them, percent of each true class. ``counts`` [K, K]: rows true, columns predicted."""
    counts = np.asarray(counts)
    figure = blank(4.8, f"Confusion matrix: {label}")
    left, right = figure.subplots(1, 2)
    shades = sns.light_palette(_style(label)[0], as_cmap=True)
    _heat(left, counts, classes, "d", "pictures", True, cmap=shades, vmin=0)
    left.set_title("number of test pictures")
    draw_shares(right, rows_to_percent(counts), classes, label, first=False)
    right.set_title("% of the true class")
    return figure


def draw_shares(ax, percent: np.ndarray, classes: Sequence[str], label: str, first: bool) -> None:
    """``rows_to_percent`` of a model's matrix, in the colour of its ``label``; ``first`` of a row has the names."""
    form = ".1f" if len(classes) <= 6 else ".0f"
    shades = sns.light_palette(_style(label)[0], as_cmap=True)
    _heat(ax, percent, classes, form, "% of the true class", first, cmap=shades, vmin=0, vmax=100)


def draw_differences(axes: Sequence, differences: Sequence[np.ndarray], classes: Sequence[str], first: bool) -> None:
    """Student less another model, in points, on one scale centred on 0: red is more of the student, blue less."""
    sizes = np.abs(np.concatenate([np.ravel(d) for d in differences]))
    # Of many small classes one always changes by 60 points, and would leave all others pale.
    bound = float(np.quantile(sizes[sizes > 0], 1 if len(classes) <= ANNOTATE else 0.95)) if sizes.any() else 1.0
    form = "+.1f" if len(classes) <= 6 else "+.0f"
    scale = {"cmap": DIFFERENCE, "vmin": -bound, "vmax": bound}
    for k, (ax, difference) in enumerate(zip(axes, differences, strict=True)):
        _heat(ax, difference, classes, form, "points", first and k == 0, "both", **scale)


@styled
def confusion_difference(differences: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """``{title: [K, K]}`` differences of row-normalised matrices, in points, on one scale centred on 0."""
    figure = blank(5.0, "Where the student differs, in points of the true class (diagonal: + is better; elsewhere −)")
    axes = np.atleast_1d(figure.subplots(1, len(differences)))
    draw_differences(axes, list(differences.values()), classes, first=True)
    for ax, title in zip(axes, differences, strict=True):
        ax.set_title(title)
    return figure


# --- pictures ------------------------------------------------------------------------------------------------------


def _grid(count: int, title: str, lines: int) -> tuple[Figure, list]:
    """Axes for ``count`` square pictures with room for ``lines`` of text above each; placed by hand, in inches."""
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
    """``image`` uint8 [H, W, C], C 1 or 3."""
    if image.shape[-1] == 1:
        ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    else:
        ax.imshow(image, interpolation="bilinear")


def _caption(ax, lines: Sequence[tuple[str, str]]) -> None:
    """Write ``(text, colour)`` lines above a picture; matplotlib has no title of several colours."""
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
    """Keep the order "mark, name, number" where an Arabic or Hebrew name would turn the line round."""
    turns = any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
    return text if not turns else f"\u200e{text}"


def _verdict(right: bool) -> tuple[str, str]:
    return ("✓", RIGHT) if right else ("✗", WRONG)


@styled
def prediction_grid(
    images: np.ndarray, target: np.ndarray, logits: np.ndarray, classes: Sequence[str], label: str
) -> Figure:
    """Pictures with what the model says of them: ✓ and green where it is right, ✗ and red where it is wrong.

    Args:
        images: uint8 [M, H, W, C], C 1 or 3. target: [M]. logits: [M, K].
    """
    figure, axes = _grid(len(images), f"{len(images)} test pictures drawn at random: {label}", 2)
    shown, predicted, probability = names(classes, 14), np.argmax(logits, 1), probabilities(logits).max(1)
    for ax, image, true, guess, p in zip(axes, images, target, predicted, probability, strict=True):
        mark, colour = _verdict(true == guess)
        _show(ax, image)
        _caption(ax, [(f"{mark} {shown[guess]} {100 * p:.0f} %", colour), (f"true: {shown[true]}", INK)])
    return figure


@styled
def disagreement_grid(
    images: np.ndarray, target: np.ndarray, teacher: np.ndarray, student: np.ndarray, classes: Sequence[str], total: int
) -> Figure:
    """Pictures on which student and teacher disagree, with both answers. Arrays as in ``prediction_grid``."""
    some = f"{len(images)} of the {total:,}" if total > len(images) else f"The {total}"
    figure, axes = _grid(len(images), f"{some} test pictures on which student and teacher disagree", 3)
    shown = names(classes, 13)
    for ax, image, true, t, s in zip(axes, images, target, np.argmax(teacher, 1), np.argmax(student, 1), strict=True):
        _show(ax, image)
        lines = [(f"true: {shown[true]}", INK)]
        for who, guess in (("teacher", t), ("student", s)):
            mark, colour = _verdict(true == guess)
            lines.append((f"{mark} {who}: {shown[guess]}", colour))
        _caption(ax, lines)
    return figure


@styled
def attention_maps(
    images: np.ndarray, target: np.ndarray, logits: np.ndarray, classes: Sequence[str], maps: Mapping[str, np.ndarray]
) -> Figure:
    """A row a picture: what the model says, the picture, and the map of each gate laid over it in colour.

    A gate has one scale of colours for all pictures, below its column. It spans what the gate told, less the lowest and
    the highest percent, and 0.05 at least: a gate that lets everything through alike is shown in one colour.

    Args:
        images, target, logits: as in ``prediction_grid``. maps: name of the gate -> [M, h, w], stretched over the
            picture.
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
        mark, colour = _verdict(true == guess)
        sure = f"{100 * probability[row]:.0f} %"
        _beside(ax, [(f"{mark} {shown[guess]}", colour), (sure, colour), (f"true: {shown[true]}", INK)])
        if row == 0:
            _caption(ax, [("picture", INK)])
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
    """Return what the colours of one gate span."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, (0.01, 0.99)).astype(float) if finite.size else (0.0, 1.0)
    spare = max(0.0, least - (high - low)) / 2
    shift = max(0.0, spare - low)  # what is let through is not negative
    return low - spare + shift, high + spare + shift


def _overlay(ax, image: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    """The picture without its colours, and ``values`` [h, w] in colour over it."""
    grey = image @ np.array(_LUMINANCE) if image.shape[-1] == 3 else image[..., 0]
    ax.imshow(grey, cmap="gray", vmin=-110, vmax=255, interpolation="bilinear")  # black would swallow the colours
    whole = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    heat = {"cmap": HEAT, "vmin": low, "vmax": high, "alpha": ALPHA}
    ax.imshow(values, extent=whole, interpolation="bilinear", interpolation_stage="data", **heat)


def _beside(ax, lines: Sequence[tuple[str, str]]) -> None:
    """Write ``(text, colour)`` lines to the left of a picture."""
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


# --- curves and scores ---------------------------------------------------------------------------------------------


@styled
def training_curves(curves: Mapping[str, Mapping[str, np.ndarray]], best_epoch: Mapping[str, int]) -> Figure:
    """Loss and accuracy by epoch; a star marks the epoch that was kept.

    Args:
        curves: label -> {"epoch", "loss", "val_loss", "train_accuracy", "val_accuracy"}, arrays [E]; NaN leaves a gap.
    """
    figure = blank(4.1, "Training")
    left, right = figure.subplots(1, 2)
    for label, curve in curves.items():
        colour, marker = _style(label)
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
    handles = [Line2D([], [], color=_style(label)[0], linewidth=2.5, label=label) for label in curves]
    handles += [
        Line2D([], [], color="black", linewidth=1.8, label="validation"),
        Line2D([], [], color="black", linewidth=1.3, linestyle="--", label="training"),
        Line2D([], [], color="black", marker="*", markersize=10, linewidth=0, label="epoch kept"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, columnspacing=1.4)
    return figure


@styled
def per_class_scores(scores: Mapping[str, np.ndarray], classes: Sequence[str], metric: str = "F1") -> Figure:
    """One dot a class and model, sorted by the first model. ``scores``: label -> [K] in [0, 1], NaN for none."""
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
            ax.text(0.01, y, "no test picture", transform=ax.get_yaxis_transform(), va="center", color=INK)
    size = 60 if count <= NAMES else 16
    for label, values in zip(scores, stacked, strict=True):
        colour, marker = _style(label)
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
    """How often a model is right when it is so sure; below, how sure it is how often. Logits [N, K], ECE in [0, 1]."""
    least = max(1, min(10, len(target) // 100))
    left_out = f" (not drawn: those of fewer than {least} pictures)" if least > 1 else ""
    figure = blank(5.0, f"Reliability, {BINS} bins of confidence{left_out}")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 100], [0, 100], color="#b0b0b0", linewidth=1, linestyle=":", label="perfectly calibrated")
    for label, values in logits.items():
        colour, marker = _style(label)
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
    top.set(ylabel="right (%)", ylim=(0, 102), xlim=(0, 102))
    bottom.set(xlabel="confidence of the prediction (%)", ylabel="pictures (%)", ylim=(0, None))
    for ax in (top, bottom):
        ax.grid()
    top.legend(loc="lower right")
    return figure


@styled
def overview(points: Mapping[str, Mapping[str, float]], batch: str) -> Figure:
    """What accuracy costs: against parameters and against latency, on log axes.

    Args:
        points: label -> {"accuracy", "error" (one standard error), "params", "latency" (ms), "calm"}; accuracy in
            [0, 1]. A latency that was not taken calmly has a hollow marker.
        batch: how the latency was measured, for the axis.
    """
    figure = blank(3.1, "What the accuracy costs (bars: one standard error of the test)")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, key, unit in ((axes[0], "params", 1e-6), (axes[1], "latency", 1.0)):
        for label, point in points.items():
            colour, marker = _style(label)
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
