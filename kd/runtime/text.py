"""Words that error messages share: suggestions for a misspelt name, and the first few of many names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST = 3  # suggestions: a longer list is no help


def closest(name: str, known: Iterable[str], most: int = MOST, cutoff: float = 0.6) -> list[str]:
    """The names most similar to ``name``, best first.

    Args:
        cutoff: the least similarity, ``difflib.SequenceMatcher.ratio`` in [0, 1].
    """
    return get_close_matches(name, list(dict.fromkeys(known)), n=most, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], most: int = MOST, cutoff: float = 0.6) -> str:
    """The end of an error message about an unknown name: ``; did you mean a or b?``, or "" where nothing is similar."""
    return suggestion(closest(name, known, most, cutoff))


def suggestion(names: Sequence[str]) -> str:
    """The same for names found in another way: ``; did you mean a, b or c?``, or "" for none."""
    *others, last = names or [""]
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def first_few(items: Iterable[object], most: int, separator: str = ", ", total: int | None = None) -> str:
    """Items joined by ``separator``, the rest as a number: ``a, b, and 3 more``.

    Args:
        most: items that are written out. total: how many there are, where ``items`` is cut already.
    """
    words = [str(item) for item in items]
    rest = (len(words) if total is None else total) - len(words[:most])
    return separator.join([*words[:most], *([f"and {rest:,} more"] if rest > 0 else [])])
