"""Triplet attention agrees with the three branches of its paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kd.attention.triplet import TripletAttention, triplet
from tests.attention.slow import agrees, convolve, drawn, normalise, numbers, shaken, sigmoid


def branch(x: np.ndarray, gate: nn.Module) -> np.ndarray:
    """Z-pool over the first axis, convolution, batch norm, sigmoid, product."""
    pooled = np.stack((x.max(0), x.mean(0)))
    scores = normalise(convolve(pooled, numbers(gate.conv.weight))[None], gate.bn)[0]
    return x * np.vectorize(sigmoid)(scores)


def reference(layer: TripletAttention):
    def formula(x: np.ndarray) -> np.ndarray:
        plain = branch(x, layer.gates[0])
        height = branch(x.transpose(1, 0, 2), layer.gates[1]).transpose(1, 0, 2)  # [H, C, W] and back
        width = branch(x.transpose(2, 0, 1), layer.gates[2]).transpose(1, 2, 0)  # [W, C, H] and back
        return (plain + height + width) / 3

    return formula


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_three_branches_are_averaged(kernel_size):
    layer = shaken(TripletAttention(kernel_size))
    agrees(layer, reference(layer), drawn(2, 6, 4, 5))


def test_it_has_three_hundred_parameters_at_any_width():
    assert {sum(p.numel() for p in triplet(nn.Identity(), c).parameters()) for c in (16, 512)} == {300}


def test_each_gate_is_blind_to_its_axis():
    layer, x = shaken(TripletAttention()), drawn(1, 6, 4, 5)
    for axis, gate in zip((1, 2, 3), layer.gates, strict=True):
        torch.testing.assert_close(gate(x), gate(x.flip(axis)))


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="attention.wrap.kernel_size must be odd, 1 or more, got 4"):
        triplet(nn.Identity(), 8, 4)
