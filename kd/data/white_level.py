"""One white for all images of a set that have more than 8 bits a channel, found from what is there.

The largest level of all files, training and test together, is rounded up to 8, 10, 12, 14 or 16 bits. There is one
scale for all because brightness may be what tells two classes apart. A set of 8 bits is looked at once, header by
header, and that it is one is remembered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from kd.data.bit_depth import FULL, GREY, VERSION, White, depth_of, extremes, own_white
from kd.data.files import unreadable_reason
from kd.data.readers.images import memory_for, opened
from kd.data.readers.silence import silence_libraries
from kd.runtime.user_warnings import warn_user
from kd.store.files import write_text
from kd.store.store import Store, digest

WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
NEVER = (b"\xff\xd8", b"GIF8", b"RIFF", b"BM")  # how JPEG, GIF, WebP and BMP begin, of which Pillow reads 8 bits
PNG, DEPTH = b"\x89PNG\r\n\x1a\n", 24  # where a PNG says how many bits a channel has

T = TypeVar("T")


class Found(NamedTuple):
    """What there is to say of a set's levels."""

    white: White
    notes: dict[str, Any]
    line: str


def any_deep(store: Store, content: str, files: Iterable[str]) -> bool:
    """Whether any of ``files`` has more than 8 bits a channel; asked once for each ``content``, their key."""
    remembered = store.path("manifests", digest({"deep": content, "version": VERSION}) + ".json")
    try:
        return bool(json.loads(remembered.read_text(encoding="utf-8"))["deep"])
    except (FileNotFoundError, ValueError, KeyError):
        pass
    deep = any(_each(is_deep, files))
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_text(remembered, json.dumps({"deep": deep}))
    return deep


def is_deep(path: str) -> bool:
    """Whether a file is an image of more than 8 bits a channel, by its header alone."""
    if unreadable_reason(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(DEPTH + 1)
        if head.startswith(NEVER) or (head.startswith(PNG) and head[12:16] == b"IHDR" and head[DEPTH:] != b"\x10"):
            return False
        with opened(path) as image:
            return bool(depth_of(image))
    except Exception:  # it is no image: told when it is decoded
        return False


def find_white(name: str, files: Mapping[str, str], said: float | None) -> Found:
    """Look at all levels of the deep files among ``files`` ({label: path}); ``said`` is what ``data.white`` says."""
    asked = White(FULL if said is None else float(said), said is not None)
    spans = [span for span in _each(partial(_span, white=asked), files.values(), "levels") if span]
    free = [span for span in spans if not span.own and (asked.said or span.can_be_found)]
    found = [float(_rounded(span.high)) for span in free]
    white = asked if asked.said else White(max(found, default=FULL))
    if not spans:  # all are damaged, which is told when they are decoded
        return Found(asked, {}, "")
    line = f"{len(spans):,} {'file holds' if len(spans) == 1 else 'files hold'} more than 8 bits a channel"
    if free:
        line += f", with values up to {max(span.high for span in free):,.10g}: {white.value:,.10g} is white "
        line += "(data.white)" if asked.said else "(found; data.white says another)"
    else:
        line += " and say themselves what is white, or are refused"
    cut = sum(span.low < 0 or span.high > (span.own or white).value for span in spans) if asked.said else 0
    if cut:
        line += f"; what is below 0 or above it is cut off in {cut:,} of them"
    usual = float(np.median(found)) if found else white.value
    if not asked.said and white.value > 4.1 * usual:  # one pixel that is stuck, or letters burned in, decide for all
        warn_user(
            f"{name}: half of the files of more than 8 bits stay below {usual + 1:,.0f}, and {white.value:,.0f} is "
            f"white. data.white={usual:.0f} shows more of their grey levels, and cuts off what is brighter"
        )
    notes = {"white": _plain(white.value)} if free else {}
    return Found(white, {**notes, "grey_levels": line}, f"{name}: {line}")


class _Span(NamedTuple):
    low: float
    high: float
    own: White | None
    can_be_found: bool  # not of levels of which nobody knows what white is


def _span(path: str, white: White) -> _Span | None:
    try:
        with opened(path) as image:
            depth = depth_of(image)
            if not depth:
                return None
            own, real = own_white(image, white) if depth == GREY else None, image.mode == "F"
            with memory_for(image):
                low, high = extremes(image)
    except Exception:  # told when it is decoded
        return None
    return _Span(low, high, own, not real and low >= 0 and high <= FULL) if np.isfinite([low, high]).all() else None


def _rounded(level: float) -> float:
    return next((white for white in WHITES if level <= white), level)


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value


def _each(look: Callable[[str], T], paths: Iterable[str], bar: str | None = None) -> list[T]:
    paths = list(paths)
    with silence_libraries() as terminal:
        pool = ThreadPoolExecutor()
        try:
            rows = pool.map(look, paths)
            return list(tqdm(rows, bar, len(paths), unit=" images", disable=bar is None or None, file=terminal))
        finally:
            pool.shutdown(cancel_futures=True)
