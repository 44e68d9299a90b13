"""Checks of the settings of augmentation steps."""

from __future__ import annotations

from collections.abc import Sequence


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError for a number outside [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}")


def check_interval(name: str, values: Sequence[float], low: float, high: float) -> None:
    """Raise ValueError unless ``values`` are two ascending numbers in [low, high]."""
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ValueError(f"{name} must be two ascending numbers in [{low:g}, {high:g}], got {list(values)}")


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """Raise ValueError for anything but a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number in [{low}, {high}], got {value!r}")
