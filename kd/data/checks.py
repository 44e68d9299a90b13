"""What every data set asks of its settings and of its images, before anything is decoded.

``kd/config/settings.py`` (OURS) states the same ranges, on purpose: there the command line is refused before anything
slow is imported, here a call from Python is. If you change a range, change both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.files import printable
from kd.runtime.values import is_number

SMALLEST = 8  # pixels a side: below that no network of ours has a map left


def check_int(name: str, value: Any, least: int, most: int | None = None, unit: str = "") -> None:
    """Refuse what is no whole number in [least, most].

    Raises:
        ValueError: with the setting and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"data.{name} must be a whole number, got {value!r}")
    if value < least or (most is not None and value > most):
        right = f"be at least {least}" if most is None else f"lie between {least} and {most}"
        raise ValueError(f"data.{name} must {right}{unit and f' {unit}'}, got {value}")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number in [low, high]."""
    if not is_number(value) or not low <= value <= high:
        raise ValueError(f"data.{name} must lie between {low} and {high}, got {value!r}")


def check_above(name: str, value: Any, least: float) -> None:
    """Refuse what is no finite number above ``least``."""
    if not is_number(value) or value <= least:
        raise ValueError(f"data.{name} must be a number above {least}, got {value!r}")


def check_fraction(name: str, value: Any) -> None:
    """Refuse what is no number in (0, 1)."""
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"data.{name} must lie between 0 and 1, got {value!r}")


def check_choice(name: str, value: Any, right: Sequence[str]) -> None:
    """Refuse a word that is not among those that mean something."""
    if value not in right:
        raise ValueError(f"data.{name} must be {' or '.join(map(repr, right))}, got {value!r}")


def folder_of(root: Any) -> Path:
    """The folder that ``data.root`` names; a name such as 2024 arrives as a number.

    Raises:
        ValueError: for a root that is empty, or stands in the home of nobody.
    """
    if str(root).strip() == "":
        raise ValueError("data.root is empty; it must name a folder")
    try:
        return Path(str(root)).expanduser()
    except RuntimeError as error:  # ~nobody
        raise ValueError(f"data.root={root}: {error}") from error


@contextmanager
def name_setting(name: str, value: Any) -> Iterator[None]:
    """Put ``data.<name>=<value>`` before what is refused inside, unless it begins with a setting of its own.

    Raises:
        ValueError: in place of one that was raised inside.
    """
    try:
        yield
    except ValueError as error:
        if str(error).startswith("data."):
            raise
        raise ValueError(f"data.{name}={printable(value)}: {error}") from error


def check_class_counts(labels: Iterable[int], classes: Sequence[str], least: int, where: str) -> None:
    """Refuse labels of which a class has fewer than ``least``, naming every such class with its count."""
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes))
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < least]
    if few:
        raise ValueError(f"too few images, at least {least} a class are needed in {where}: {', '.join(few)}")
