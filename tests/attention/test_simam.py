"""SimAM agrees with the closed form of its paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kd.attention.simam import SimAM, energy, simam
from tests.attention.slow import agrees, drawn, places, sigmoid


def reference(x: np.ndarray, lam: float) -> np.ndarray:
    """Equation 5, e = 4 (v + lambda) / ((t - m)^2 + 2 v + 2 lambda), and then x * sigmoid(1 / e)."""
    out = np.zeros_like(x)
    count = x.shape[1] * x.shape[2]
    for channel in range(len(x)):
        mean = sum(x[channel, r, c] for r, c in places(x)) / count
        variance = sum((x[channel, r, c] - mean) ** 2 for r, c in places(x)) / count
        for r, c in places(x):
            t = x[channel, r, c]
            least = 4 * (variance + lam) / ((t - mean) ** 2 + 2 * variance + 2 * lam)
            out[channel, r, c] = t * sigmoid(1 / least)
    return out


@pytest.mark.parametrize("lam", [1e-4, 0.3])
def test_every_number_is_gated_by_the_papers_energy(lam):
    agrees(SimAM(lam), lambda x: reference(x, lam), drawn(2, 3, 4, 5))


def test_a_neuron_that_differs_from_its_channel_has_the_largest_gate():
    x = torch.tensor([0.0, 0, 0, 4], dtype=torch.float64).view(1, 1, 2, 2)  # mean 1, variance 3
    torch.testing.assert_close(
        energy(x, 1e-12).flatten(), torch.tensor([7 / 12, 7 / 12, 7 / 12, 15 / 12], dtype=torch.float64)
    )


def test_a_map_of_one_place_is_gated_by_the_sigmoid_of_one_half():
    x = drawn(2, 3, 1, 1)
    torch.testing.assert_close(SimAM()(x), x * sigmoid(0.5))


def test_half_precision_squares_in_float32():
    x = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    x[..., 0, 0] = -300
    assert SimAM()(x).isfinite().all() and SimAM()(x).dtype == torch.float16


def test_it_has_no_parameters_and_says_which_setting_is_wrong():
    assert not list(simam(nn.Identity(), 8).parameters())
    with pytest.raises(ValueError, match="attention.wrap.e_lambda must be above 0, got 0"):
        simam(nn.Identity(), 8, 0)
