"""The fall of a weight from 1 to 0 along half a cosine."""

from __future__ import annotations

import math

TERMS = 12  # of the sine's series for |x| <= pi / 2, in float64


def half_cosine(share: float) -> float:
    """Return (1 + cos(pi share)) / 2 for a share in [0, 1], to 1e-15.

    By sums and products alone: a compiled step keeps the share a variable in these, and would be compiled again for
    each value of ``math.cos``.
    """
    x = math.pi * (share - 0.5)
    term = total = x
    for n in range(1, TERMS):
        term = -term * x * x / (2 * n * (2 * n + 1))
        total = total + term
    return 0.5 * (1 - total)
