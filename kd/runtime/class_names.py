"""A text file of class names, one a line: the outputs of a network, in order; where the data's classes are in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kd.runtime.text import closest, first_few

MAX_NAMED = 4  # classes in a message


def read_class_names(path: Path, setting: str = "teacher.classes") -> list[str]:
    """Return the names in a file, without the spaces around them; empty lines at the end do not count.

    Args:
        setting: which names the file, for error messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a text in UTF-8, no name, an empty line between names, or the same name twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{setting}={path} is not a text file in UTF-8: {error}") from error
    if not lines:
        raise ValueError(f"{setting}={path} is empty: write one class a line, in the order of their numbers")
    if "" in lines:
        raise ValueError(f"{setting}={path}: line {lines.index('') + 1} is empty; each line names one class")
    twice = [name for name, count in Counter(lines).items() if count > 1]
    if twice:
        raise ValueError(f"{setting}={path} names {first_few(map(repr, twice), MAX_NAMED)} more than once")
    return lines


def positions_of(classes: Sequence[str], names: Sequence[str], path: Path) -> list[int]:
    """Return where each of the data's ``classes`` is in the ``names`` of a file.

    Raises:
        ValueError: the file lacks classes; names them and what is similar to them.
    """
    missing = [name for name in classes if name not in names]
    if missing:
        hints = {name: closest(name, names, most=1) for name in missing}
        texts = [f"{name!r} (did you mean {hints[name][0]!r}?)" if hints[name] else repr(name) for name in missing]
        raise ValueError(
            f"teacher.classes={path} lacks {len(missing)} of the {len(classes)} classes of this data set: "
            f"{first_few(texts, MAX_NAMED)}. Write each as the data set does"
        )
    return [names.index(name) for name in classes]
