"""Variational Information Distillation for Knowledge Transfer (Ahn et al. 2019), https://arxiv.org/abs/1904.05835.

A regressor predicts the teacher's map from the student's; the loss is the negative log-likelihood of the teacher's map
under a Gaussian around the prediction. The variance, one number for each channel of the teacher, is learned, so that
channels which the student cannot predict count less. The loss bounds the mutual information of the two maps from below.

Costs three 1x1 convolutions a stage, C D + 2 D^2 weights for C channels of the student and D of the teacher, in
training alone: with a 512-channel teacher more than a whole small student. As in RepDistiller, which took the authors'
code: no bias, no norm, ReLU between. mdistiller does not pass the variance to its optimiser, and so trains 0.1 of a
mean squared error. The value may be negative, because a density may exceed 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import paired_maps, same_size

FLOOR = 1e-5  # of the variance


def variance_of(rho: Tensor) -> Tensor:
    """Return softplus(rho) + 1e-5, without overflow or underflow."""
    return torch.logaddexp(rho, torch.zeros_like(rho)) + FLOOR


def rho_of(variance: float) -> float:
    """Return the inverse of ``variance_of`` for a number."""
    return math.log(math.expm1(variance - FLOOR))


def negative_log_likelihood(mean: Tensor, teacher: Tensor, rho: Tensor) -> Tensor:
    """Return the mean over all elements of 1/2 [(teacher - mean)^2 / s^2 + log s^2]: log(2 pi) / 2 is left out.

    Args:
        mean, teacher: [B, D, H, W]. rho: [D], of s^2 = softplus(rho) + 1e-5.
    """
    variance = variance_of(rho).view(-1, 1, 1)
    return 0.5 * ((teacher - mean).square() / variance + variance.log()).mean()


class VariationalInformation(nn.Module):
    """``negative_log_likelihood``, summed over stages; each stage has its own regressor and variance.

    Args:
        variance: the initial variance of every channel.
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, variance: float = 5.0, stages: Sequence[int] | None = None):
        super().__init__()
        if not FLOOR < variance < 700:
            raise ValueError(f"kd.variance must lie above {FLOOR} and below 700, got {variance}")
        self.variance, self.stages = variance, stages
        self.regressors, self.rhos = nn.ModuleList(), nn.ParameterList()

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the regressor and the variances of each pair of maps."""
        pairs = paired_maps(student, teacher, self.stages)
        self.regressors = nn.ModuleList(_regressor(own.shape[1], other.shape[1]) for own, other in pairs)
        self.rhos = nn.ParameterList(torch.full((other.shape[1],), rho_of(self.variance)) for _, other in pairs)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        total = 0.0
        pairs = paired_maps(student, teacher, self.stages)
        for regressor, rho, pair in zip(self.regressors, self.rhos, pairs, strict=True):
            own, other = same_size(*pair)
            total = total + negative_log_likelihood(regressor(own), other, rho)
        return total


def _regressor(inside: int, outside: int) -> nn.Sequential:
    widths = (inside, outside, outside, outside)
    first, second, third = (nn.Conv2d(i, o, 1, bias=False) for i, o in zip(widths, widths[1:], strict=False))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
