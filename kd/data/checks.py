"""Checks of a data set's settings and class counts, before anything is decoded.

``kd/config/settings.py`` (OURS) states the same ranges on purpose: it refuses a command line before anything slow is
imported, and these functions refuse a call from Python. If you change a range, change both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.files import printable
from kd.runtime.values import is_number

SMALLEST = 8  # pixels a side: below that every network here shrinks its map to nothing


def check_int(name: str, value: Any, least: int, most: int | None = None, unit: str = "") -> None:
    """Raise ValueError, with setting and value, unless ``value`` is a whole number in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"data.{name} must be a whole number, got {value!r}")
    if value < least or (most is not None and value > most):
        condition = f"be at least {least}" if most is None else f"lie between {least} and {most}"
        raise ValueError(f"data.{name} must {condition}{unit and f' {unit}'}, got {value}")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise ValueError unless ``value`` is a number in [low, high]."""
    if not is_number(value) or not low <= value <= high:
        raise ValueError(f"data.{name} must lie between {low} and {high}, got {value!r}")


def check_above(name: str, value: Any, least: float) -> None:
    """Raise ValueError unless ``value`` is a finite number above ``least``."""
    if not is_number(value) or value <= least:
        raise ValueError(f"data.{name} must be a number above {least}, got {value!r}")


def check_fraction(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is a number in (0, 1)."""
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"data.{name} must lie between 0 and 1, got {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"data.{name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def folder_of(root: Any) -> Path:
    """Return the folder that ``data.root`` names; a name such as 2024 arrives as a number.

    Raises:
        ValueError: for an empty root, or one in the home of an unknown user.
    """
    if str(root).strip() == "":
        raise ValueError("data.root is empty; it must name a folder")
    try:
        return Path(str(root)).expanduser()
    except RuntimeError as error:  # ~unknown_user
        raise ValueError(f"data.root={root}: {error}") from error


@contextmanager
def name_setting(name: str, value: Any) -> Iterator[None]:
    """Prefix the ValueErrors of the block with ``data.<name>=<value>``, unless they begin with a data setting."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith("data."):
            raise
        raise ValueError(f"data.{name}={printable(value)}: {error}") from error


def check_class_counts(labels: Iterable[int], classes: Sequence[str], least: int, where: str) -> None:
    """Raise ValueError, with names and counts, if any class has fewer than ``least`` labels."""
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes))
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < least]
    if few:
        raise ValueError(f"too few images: at least {least} per class are needed in {where}: {', '.join(few)}")
