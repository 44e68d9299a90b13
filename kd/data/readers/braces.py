"""Expand names of shards: ``{000..009}`` counts with leading zeros, ``{a,b}`` lists; both nest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 1_000_000  # names; a typo in a range must not fill the memory


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in order.

    Raises:
        ValueError: for braces that do not match, and more than a million names.
    """
    names = []
    for name in _expanded(pattern):
        names.append(name)
        if len(names) > MOST:
            raise ValueError(f"{pattern} stands for more than {MOST:,} names")
    return names


def _expanded(pattern: str) -> Iterator[str]:
    start = pattern.find("{")
    if start < 0:
        if "}" in pattern:
            raise ValueError(f"{pattern}: a brace is closed that was not opened")
        yield pattern
        return
    end, parts = _parts(pattern, start)
    for part in _alternatives(parts):
        for rest in _expanded(pattern[end:]):
            yield pattern[:start] + part + rest


def _parts(pattern: str, start: int) -> tuple[int, list[str]]:
    """Return where the brace at ``start`` ends, and what its commas separate."""
    depth, parts = 0, [""]
    for place in range(start, len(pattern)):
        sign = pattern[place]
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return place + 1, parts
        if sign == "," and depth == 1:
            parts.append("")
        elif place > start:
            parts[-1] += sign
    raise ValueError(f"{pattern}: a brace is not closed")


def _alternatives(parts: Sequence[str]) -> Iterator[str]:
    span = RANGE.fullmatch(parts[0]) if len(parts) == 1 else None
    if span is None:
        for part in parts:
            yield from _expanded(part)
        return
    first, last = int(span[1]), int(span[2])
    width = max(map(len, span.groups())) if any(each.startswith("0") and len(each) > 1 for each in span.groups()) else 0
    for number in range(first, last + 1) if first <= last else range(first, last - 1, -1):
        yield f"{number:0{width}}"
