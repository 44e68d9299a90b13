"""SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks (Yang et al. 2021, ICML).

https://proceedings.mlr.press/v139/yang21o.html

A neuron matters if it differs from the rest of its channel: the smaller the energy e that separates it from the others
(a ridge regression in closed form), the more of it passes, sigmoid(1 / e). The gate lies in (0.62, 1), has no
parameters, and costs about eight passes over the map. The authors put one into every block, not after a stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.attention.gate import SpatiallyGated


def energy(x: Tensor, e_lambda: float) -> Tensor:
    """Return 1 / e of each neuron (equation 5): [B, C, H, W] -> [B, C, H, W], at least 1/2.

    ``(d^2 + 2 v + 2 lambda) / (4 (v + lambda))``, d the distance from the channel's mean, v its variance, both over
    all M = H W places, as in the equation. The published code divides by M - 1, which is 0 / 0 on a map of 1 x 1.
    """
    squares = (x - x.mean((2, 3), keepdim=True)).to(torch.promote_types(x.dtype, torch.float32)).square()
    variance = squares.mean((2, 3), keepdim=True)
    return squares / (4 * (variance + e_lambda)) + 0.5


class SimAM(nn.Module):
    """``x * sigmoid(1 / e)``.

    Args:
        e_lambda: the regression's lambda.
    """

    def __init__(self, e_lambda: float = 1e-4):
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(energy(x, self.e_lambda)).to(x.dtype)


def simam(stage: nn.Module, channels: int, e_lambda: float = 1e-4) -> nn.Module:
    """Return ``stage``, its output gated by ``SimAM``; ``channels`` has no effect."""
    if not e_lambda > 0:
        raise ValueError(f"attention.wrap.e_lambda must be above 0, got {e_lambda}")
    return SpatiallyGated(stage, SimAM(e_lambda))
