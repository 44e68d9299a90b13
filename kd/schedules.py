"""Progress in [0, 1] to a factor: pure functions."""

from __future__ import annotations

import math


def warmup_cosine(progress: float, warmup: float = 0.0, floor: float = 0.0) -> float:
    """Rise linearly over the first ``warmup`` share of training, then fall along half a cosine to ``floor``."""
    if progress < warmup:
        return progress / warmup
    along = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))
