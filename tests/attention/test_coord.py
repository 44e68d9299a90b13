"""Coordinate attention agrees with the formulas of its paper."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from kd.attention.coord import CoordinateAttention, coord
from tests.attention.slow import agrees, dense, drawn, normalise, places, shaken, sigmoid


def h_swish(x: float) -> float:
    return x * min(max(x + 3, 0), 6) / 6


def reference(layer: CoordinateAttention):
    conv, norm, _ = layer.squeeze

    def squeezed(strip: np.ndarray) -> np.ndarray:
        """[C, n] -> [m, n]."""
        middle = np.stack([dense(column, conv) for column in strip.T], 1)
        return np.vectorize(h_swish)(normalise(middle, norm))

    def formula(x: np.ndarray) -> np.ndarray:
        rows, columns = squeezed(x.mean(2)), squeezed(x.mean(1))  # equations 4 and 5, then 6
        out = np.zeros_like(x)
        for r, c in places(x):
            row, column = dense(rows[:, r], layer.row), dense(columns[:, c], layer.column)  # equations 7 and 8
            for channel in range(len(x)):
                out[channel, r, c] = x[channel, r, c] * sigmoid(row[channel]) * sigmoid(column[channel])
        return out

    return formula


def test_every_place_is_gated_by_its_row_and_its_column():
    layer = shaken(CoordinateAttention(6, reduction=2, least=1))
    agrees(layer, reference(layer), drawn(2, 6, 4, 5))


@pytest.mark.parametrize(("channels", "hidden"), [(64, 8), (256, 8), (512, 16)])
def test_its_parameters_are_those_of_the_published_code(channels, hidden):
    count = sum(p.numel() for p in coord(nn.Identity(), channels).parameters())
    assert count == 3 * channels * hidden + 2 * channels + 3 * hidden
