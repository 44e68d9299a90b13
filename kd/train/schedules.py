"""Schedules: pure functions from progress in [0, 1] to a factor."""

from __future__ import annotations

import math


def warmup_cosine(progress: float, warmup: float = 0.0, floor: float = 0.0) -> float:
    """Rise linearly over the first ``warmup`` share of training, then fall along half a cosine to ``floor``."""
    if progress < warmup:
        return progress / warmup
    along = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))


def window(progress: float, start: float = 0.0, end: float = 1.0, rise: float = 0.0, fall: float = 0.0) -> float:
    """Return 1 from ``start`` to ``end`` and 0 outside, with a linear rise over the first ``rise`` and a fall along
    half a cosine over the last ``fall``.

    Args:
        start, end, rise, fall: shares of the training, 0 <= start < end <= 1, rise >= 0, 0 <= fall <= end - start.

    Raises:
        ValueError: the numbers leave no window.
    """
    if not (0 <= start < end <= 1 and rise >= 0):
        raise ValueError(f"a schedule needs 0 <= start < end <= 1 and rise >= 0, got {start}, {end}, {rise}")
    if not 0 <= fall <= end - start:
        raise ValueError(f"a schedule falls within its window, so fall must lie in [0, {end - start:g}], got {fall}")
    if progress < start or (progress >= end and end < 1):
        return 0.0
    risen = min((progress - start) / rise, 1.0) if rise else 1.0
    if progress <= end - fall:  # exactly 1 before the fall
        return risen
    return risen * 0.5 * (1 + math.cos(math.pi * min((progress - end + fall) / fall, 1.0)))
