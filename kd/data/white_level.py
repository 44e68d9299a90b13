"""Detect one white for all images of a data set that have more than 8 bits a channel.

The largest level of all files, training and test together, is rounded up to 8, 10, 12, 14 or 16 bits. All files have
the same scale because brightness may be what distinguishes two classes. The headers of an 8-bit data set are read once;
the store remembers the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from kd.data.bit_depth import GREY, MAX_16_BIT, VERSION, White, depth_of, extremes, own_white
from kd.data.readers.images import memory_for, opened
from kd.data.readers.parallel import in_order
from kd.data.readers.silence import silence_libraries
from kd.data.sources import Source, head_of, is_picture, refusal
from kd.runtime.user_warnings import warn_user
from kd.store.files import write_text
from kd.store.store import Store, digest

WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
EIGHT_BIT = (b"\xff\xd8", b"GIF8", b"RIFF", b"BM")  # of JPEG, GIF, WebP, BMP: Pillow reads 8 bits of them
PNG, DEPTH = b"\x89PNG\r\n\x1a\n", 24  # the byte of a PNG that holds the bits a channel

T = TypeVar("T")


class Found(NamedTuple):
    """The white of a data set, with notes and a line for the user."""

    white: White
    notes: dict[str, Any]
    line: str


def any_deep(store: Store, content: str, files: Iterable[Source]) -> bool:
    """Whether any of ``files`` has more than 8 bits a channel; remembered by ``content``, their key."""
    remembered = store.path("manifests", digest({"deep": content, "version": VERSION}) + ".json")
    try:
        return bool(json.loads(remembered.read_text(encoding="utf-8"))["deep"])
    except (FileNotFoundError, ValueError, KeyError):
        pass
    deep = any(_each(is_deep, files))
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_text(remembered, json.dumps({"deep": deep}))
    return deep


def is_deep(source: Source) -> bool:
    """Whether a file is an image of more than 8 bits a channel; reads the header alone."""
    try:
        if is_picture(source) or refusal(source):
            return False
        head = head_of(source, DEPTH + 1)
        if head.startswith(EIGHT_BIT) or (head.startswith(PNG) and head[12:16] == b"IHDR" and head[DEPTH:] != b"\x10"):
            return False
        with opened(source) as image:
            return bool(depth_of(image))
    except Exception:  # not an image: reported when it is decoded
        return False


def find_white(name: str, files: Mapping[str, Source], given: float | None) -> Found:
    """Return the white of ``files`` ({label: source}), from the levels of those with more than 8 bits a channel.

    Args:
        given: the value of ``data.white``, None to detect the white.
    """
    setting = White(MAX_16_BIT if given is None else float(given), given is not None)
    spans = [span for span in _each(partial(_span, white=setting), files.values(), "levels") if span]
    free = [span for span in spans if not span.own and (setting.given or span.has_known_range)]
    whites = [float(_round_up(span.high)) for span in free]
    white = setting if setting.given else White(max(whites, default=MAX_16_BIT))
    if not spans:  # all are damaged, which is reported when they are decoded
        return Found(setting, {}, "")
    line = f"{len(spans):,} {'file holds' if len(spans) == 1 else 'files hold'} more than 8 bits a channel"
    if free:
        line += f", with values up to {max(span.high for span in free):,.10g}: {white.value:,.10g} is white "
        line += "(data.white)" if setting.given else "(detected; data.white sets another)"
    else:
        line += "; each states its own white, or is refused"
    clipped = sum(span.low < 0 or span.high > (span.own or white).value for span in spans) if setting.given else 0
    if clipped:
        line += f"; values below 0 or above white are clipped in {clipped:,} of them"
    usual = float(np.median(whites)) if whites else white.value
    if not setting.given and white.value > 4.1 * usual:  # one stuck pixel, or burned-in letters, decide for all files
        warn_user(
            f"{name}: half of the files of more than 8 bits stay below {usual + 1:,.0f}, but white is "
            f"{white.value:,.0f}. data.white={usual:.0f} keeps more of their grey levels and clips brighter values"
        )
    notes = {"white": _whole_as_int(white.value)} if free else {}
    return Found(white, {**notes, "grey_levels": line}, f"{name}: {line}")


class _Span(NamedTuple):
    low: float
    high: float
    own: White | None
    has_known_range: bool  # False for floats and levels outside 0..65535: no white can be detected


def _span(source: Source, white: White) -> _Span | None:
    try:
        with opened(source) as image:
            depth = depth_of(image)
            if not depth:
                return None
            own, is_float = own_white(image, white) if depth == GREY else None, image.mode == "F"
            with memory_for(image):
                low, high = extremes(image)
    except Exception:  # reported when it is decoded
        return None
    return (
        _Span(low, high, own, not is_float and low >= 0 and high <= MAX_16_BIT)
        if np.isfinite([low, high]).all()
        else None
    )


def _round_up(level: float) -> float:
    return next((white for white in WHITES if level <= white), level)


def _whole_as_int(value: float) -> float:
    return int(value) if value == int(value) else value


def _each(function: Callable[[Source], T], sources: Iterable[Source], bar: str | None = None) -> list[T]:
    sources = list(sources)
    with silence_libraries() as terminal:
        pool = ThreadPoolExecutor()
        try:
            rows = in_order(pool, function, sources)
            return list(tqdm(rows, bar, len(sources), unit=" images", disable=bar is None or None, file=terminal))
        finally:
            pool.shutdown(cancel_futures=True)
