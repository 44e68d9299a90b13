"""Parts of error messages: suggestions for a misspelt name, and the first few of many names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_SUGGESTIONS = 3  # suggestions; a longer list does not help


def closest(name: str, known: Iterable[str], most: int = MAX_SUGGESTIONS, cutoff: float = 0.6) -> list[str]:
    """Return the names most similar to ``name``, best first.

    Args:
        cutoff: the minimum similarity, ``difflib.SequenceMatcher.ratio`` in [0, 1].
    """
    return get_close_matches(name, list(dict.fromkeys(known)), n=most, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], most: int = MAX_SUGGESTIONS, cutoff: float = 0.6) -> str:
    """Return the end of a message about an unknown name: ``; did you mean a or b?``, or "" if none is similar."""
    return suggestion(closest(name, known, most, cutoff))


def suggestion(names: Sequence[str]) -> str:
    """Return ``; did you mean a, b or c?`` for these names, or "" for none."""
    *others, last = names or [""]
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def first_few(items: Iterable[object], most: int, separator: str = ", ", total: int | None = None) -> str:
    """Join the first items by ``separator``, and count the rest: ``a, b, and 3 more``.

    Args:
        most: the number of items to write out. total: the number of items, if ``items`` is already cut.
    """
    words = [str(item) for item in items]
    rest = (len(words) if total is None else total) - len(words[:most])
    return separator.join([*words[:most], *([f"and {rest:,} more"] if rest > 0 else [])])
