"""The look of every figure: sizes, colours, fonts, markers, axes."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

WIDTH = 9.0  # inches
DPI = 110
ANNOTATE = 12  # classes; with more, numbers no longer fit into the cells of a confusion matrix
MATRIX_NAMES, NAMES = 20, 30  # classes; with more, names no longer fit beside a matrix, on an axis
COLUMNS = 5  # images in a row of a grid
DIFFERENCE = "RdBu_r"  # of matrices: red, the student's colour, is more for the student
HEAT, ALPHA = "viridis", 0.6  # of attention maps: even steps look even, also to colour-blind readers

_PALETTE = sns.color_palette("colorblind")
STYLE = {  # label -> colour, marker
    "teacher": (_PALETTE[0], "o"),
    "student": (_PALETTE[3], "s"),
    "baseline": ("#6f6f6f", "D"),
}
RIGHT, WRONG = "#00694b", "#b03a00"  # the palette's green and vermilion, darkened to be readable as text on white
INK = "#262626"
FAINT = "#6f6f6f"
LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue
# fonts for other scripts, used if they are installed: matplotlib's own DejaVu Sans has no CJK and no Indic
_OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "WenQuanYi Zen Hei", "Arial Unicode MS"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic", "Nirmala UI"),
)


@functools.cache
def _fonts() -> dict[str, str]:
    """Return family -> file of the fonts to draw with, in order of preference."""
    default = {"DejaVu Sans": font_manager.findfont("DejaVu Sans")}
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    return default | {name: installed[name] for name in _OTHER_FONTS if name in installed}


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
    """Decorate a function that draws a figure, so that it uses the fonts and sizes of all figures."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(_rc()):
            return draw(*args, **kwargs)

    return wrapper


def blank(height: float, title: str) -> Figure:
    """Return an empty figure of the common width; ``height`` in inches."""
    # without a canvas until it is saved: seaborn would draw every heat map twice, which doubles the time
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.suptitle(title)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG, or as a JPEG if ``path`` ends with .jpg.

    In full colour: a palette small enough to save space would show in photographs.
    """
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(_rc()):
        if any(ax.get_aspect() == 1 for ax in figure.axes) and figure.get_layout_engine():
            figure.get_layout_engine().execute(figure)  # the layout of square axes is right at the second attempt
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    # of a PNG; optimize=True: 3 % smaller, eight times as long
    image.save(path, dpi=(DPI, DPI), compress_level=4, quality=80)


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
    """Return the text for each class in a figure: its name, shortened, or "#3" if no font can draw it."""
    return [shorten(name, width) if can_draw(name) else f"#{k}" for k, name in enumerate(classes)]


def style_of(label: str) -> tuple[object, str]:
    """Return colour and marker of a role label."""
    return STYLE.get(label, (_PALETTE[2], "^"))


BLUE = "#6ea4de"  # of heat maps: black is readable on all its shades
TEACHER, STUDENT, BASELINE = STYLE
MARKERS = "osD^vP*X"


def is_logarithmic(values: np.ndarray, ratio: float = 4) -> bool:
    """Whether an axis should be logarithmic: values are positive, and the largest is over ``ratio`` times the least."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() / values.min() > ratio)


def plain_number(value: float, _: int = 0) -> str:
    """Format a tick without powers of ten."""
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"


def log_axis(ax, base: int = 10, ticks: Sequence[float] | None = None) -> None:
    """Make the x axis logarithmic, with plain numbers. ``ticks``: the values to mark, if they are few."""
    ax.set_xscale("log", base=base)
    if ticks is not None and len(ticks) <= 12:
        ax.set_xticks(list(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(plain_number))
    ax.xaxis.set_minor_formatter(NullFormatter())
