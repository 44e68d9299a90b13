"""Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation (Liu et al., ICCV 2021),
https://arxiv.org/abs/2202.03680.

The student learns which channels of the teacher's last map are alike in an image: the loss compares the inner products
of every two channels, a C x C matrix for each image with rows of length 1. The products sum over places, so the two
maps may differ in size. Costs a 1x1 convolution and, if a map has more places than channels, two matrices of B C^2
numbers; a map with fewer places, as deep maps have, needs no such matrices.

The authors' codes differ: the CIFAR code divides the summed squares by C B, the ImageNet code and torchdistill by
C B^2, which makes the loss fall with the batch size. ``variant`` chooses. Both codes put a convolution (3x3 for
ImageNet) and batch norm after the student's map even if the channels agree; here it is a 1x1 convolution, always. The
grid-wise form of the paper, for segmentation, is not implemented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import conv_norm, paired_maps, warn_single_map

VARIANTS = ("cifar", "imagenet")
TINY = 1e-12  # a row of smaller length counts as zeros


def channel_correlation_loss(student: Tensor, teacher: Tensor, variant: str = "cifar") -> Tensor:
    """Return the squared differences of the correlations, a scalar: summed over B, C and C, then divided.

    Args:
        student, teacher: [B, C, H, W] and [B, C, I, J].
        variant: divide by C B ("cifar") or by C B^2 ("imagenet").
    """
    count, channels = student.shape[:2]
    own, other = student.flatten(2), teacher.flatten(2)
    has_few_places = max(own.shape[-1], other.shape[-1]) < channels  # as deep maps have
    apart = (
        _apart_by_places(own, other) if has_few_places else (_correlations(own) - _correlations(other)).square().sum()
    )
    return apart / (channels * count if variant == "cifar" else channels * count**2)


def _correlations(x: Tensor) -> Tensor:
    """[B, C, N] -> [B, C, C], rows of length 1. A channel of zeros has a row of zeros, without gradient."""
    products = x @ x.transpose(-1, -2)
    length = torch.linalg.vector_norm(products, dim=-1, keepdim=True)
    return products / length.masked_fill(
        length < TINY, math.inf
    )  # other codes divide by 1e-12 there, also the gradient


def _apart_by_places(x: Tensor, y: Tensor) -> Tensor:
    """Return the same sum of squares without a C x C matrix: the product of two rows g_i = X x_i is x_i' (X' Y) y_i.

    Args:
        x, y: [B, C, N] and [B, C, M]. With N x M matrices instead of C x C, 64 images of 384 channels and 3 x 3 places
            take 7 ms instead of 480, on one CPU core and with the gradient.
    """

    def rows(x: Tensor, y: Tensor) -> Tensor:  # [B, C]
        return ((x @ (x.transpose(-1, -2) @ y)) * y).sum(-1)

    squares = rows(x, x), rows(y, y)
    nonzero = [square > TINY**2 for square in squares]
    lengths = [square.where(is_nonzero, 1.0).sqrt() for square, is_nonzero in zip(squares, nonzero, strict=True)]
    cosine = (rows(x, y) / (lengths[0] * lengths[1])).where(nonzero[0] & nonzero[1], 0.0)
    return (nonzero[0].to(x.dtype) + nonzero[1].to(x.dtype) - 2 * cosine).sum()


class ICKD(nn.Module):
    """Channel correlations through connectors, summed over stages.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
        variant: "cifar" or "imagenet", the divisor.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = (-1,), variant: str = "cifar"):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be cifar or imagenet, got {variant!r}")
        self.stages, self.variant = stages, variant

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        for _, given in paired_maps(student, teacher, self.stages):
            warn_single_map(given, "kd=ickd", "all its active channels have the same correlations")
        self.connectors = nn.ModuleList(
            conv_norm(own.shape[1], given.shape[1]) for own, given in paired_maps(student, teacher, self.stages)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sum(
            channel_correlation_loss(connector(own), given, self.variant)
            for connector, (own, given) in zip(self.connectors, paired_maps(student, teacher, self.stages), strict=True)
        )
