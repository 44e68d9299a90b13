"""Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation (Liu et al., ICCV 2021),
https://arxiv.org/abs/2202.03680.

Channels that look alike in an image to the teacher shall look alike to the student: the inner products of every two
channels of the last map, C x C for each image, are compared after each row got length 1. Places are summed over, so the
two maps may differ in size. Costs a 1x1 convolution and, where a map has more places than channels, two matrices of
B C^2 numbers; where it has fewer, as deep maps have, the same is computed without them.

The authors disagree with themselves: their CIFAR code divides the summed squares by C B, their ImageNet code and
torchdistill by C B^2, which makes the loss fall with the batch. Both are here as ``variant``. Both of their codes put a
convolution and batch norm behind the student's map even where channels agree (3x3 for ImageNet); here it is 1x1, and
always there too. The grid-wise form of the paper, for segmentation, is not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import conv_norm, paired_maps, warn_single_map

VARIANTS = ("cifar", "imagenet")
TINY = 1e-12  # length of a row that counts as zeros


def channel_correlation_loss(student: Tensor, teacher: Tensor, variant: str = "cifar") -> Tensor:
    """Return the squared differences of the correlations, a scalar: summed over B, C and C, divided.

    Args:
        student, teacher: [B, C, H, W] and [B, C, I, J].
        variant: divide by C B ("cifar") or by C B^2 ("imagenet").
    """
    count, channels = student.shape[:2]
    own, given = student.flatten(2), teacher.flatten(2)
    few = max(own.shape[-1], given.shape[-1]) < channels  # fewer places than channels, as deep maps have
    apart = _apart_by_places(own, given) if few else (_correlations(own) - _correlations(given)).square().sum()
    return apart / (channels * count if variant == "cifar" else channels * count**2)


def _correlations(x: Tensor) -> Tensor:
    """[B, C, N] -> [B, C, C], rows of length 1. A channel of zeros has a row of zeros, without gradient."""
    products = x @ x.transpose(-1, -2)
    length = torch.linalg.vector_norm(products, dim=-1, keepdim=True)
    return products / length.masked_fill(length < TINY, math.inf)  # peers divide by 1e-12 there, gradient and all


def _apart_by_places(x: Tensor, y: Tensor) -> Tensor:
    """The same sum of squares without any C x C matrix: the product of two rows g_i = X x_i is x_i' (X' Y) y_i.

    Args:
        x, y: [B, C, N] and [B, C, M]. With N x M tables in place of C x C, 64 images of 384 channels and 3 x 3 places
            take 7 ms instead of 480, on one CPU core and with the gradient.
    """

    def rows(x: Tensor, y: Tensor) -> Tensor:  # [B, C]
        return ((x @ (x.transpose(-1, -2) @ y)) * y).sum(-1)

    squares = rows(x, x), rows(y, y)
    there = [square > TINY**2 for square in squares]
    lengths = [square.where(is_there, 1.0).sqrt() for square, is_there in zip(squares, there, strict=True)]
    cosine = (rows(x, y) / (lengths[0] * lengths[1])).where(there[0] & there[1], 0.0)
    return (there[0].to(x.dtype) + there[1].to(x.dtype) - 2 * cosine).sum()


class ICKD(nn.Module):
    """Channel correlations through connectors, summed over stages.

    Args:
        stages: from the deep end, -1 the last map; None takes all that both networks have.
        variant: "cifar" or "imagenet": which of the authors' two divisors.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = (-1,), variant: str = "cifar"):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be cifar or imagenet, got {variant!r}")
        self.stages, self.variant = stages, variant

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        for _, given in paired_maps(student, teacher, self.stages):
            warn_single_map(given, "kd=ickd", "all its channels that are active correlate alike")
        self.connectors = nn.ModuleList(
            conv_norm(own.shape[1], given.shape[1]) for own, given in paired_maps(student, teacher, self.stages)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sum(
            channel_correlation_loss(connector(own), given, self.variant)
            for connector, (own, given) in zip(self.connectors, paired_maps(student, teacher, self.stages), strict=True)
        )
