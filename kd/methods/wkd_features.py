"""Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation (Lv, Yang, Li, NeurIPS 2024),
https://arxiv.org/abs/2412.08139: its WKD-F.

What a channel says over the places of the last map is taken for a normal distribution, with its mean and its standard
deviation. The Wasserstein distance of two normal distributions is the squared difference of the means plus that of the
deviations, here summed over channels; ``ratio`` weights the means. With ``grid`` the map is cut into cells, each with
distributions of its own. A 1x1 convolution, batch norm and ReLU map the student's channels to the teacher's first, or
the authors' bottleneck of three convolutions; they are not deployed. The larger map is pooled to the smaller.

A cell of a single place has no deviation: then the means alone are compared, and the term says so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import conv_norm, paired_maps, same_size, warn_single_map

EPS = 1e-5  # the authors', added to variances


def cell_statistics(x: Tensor, grid: int = 1) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over the places of each cell, two [B, C, grid * grid].

    Cells are those of ``F.adaptive_avg_pool2d``: where ``grid`` does not divide the sides they overlap. The variance
    has the divisor n - 1.

    Args:
        x: [B, C, H, W].
    """
    rows, columns = (_bounds(side, grid) for side in x.shape[-2:])
    cells = [x[..., top:bottom, left:right].flatten(-2) for top, bottom in rows for left, right in columns]
    means = torch.stack([cell.mean(-1) for cell in cells], -1)
    variances = torch.stack([cell.var(-1, correction=min(1, cell.shape[-1] - 1)) for cell in cells], -1)
    return means, (variances + EPS).sqrt()


def _bounds(side: int, grid: int) -> list[tuple[int, int]]:
    return [(k * side // grid, -(-(k + 1) * side // grid)) for k in range(grid)]


def gaussian_distance(student: Tensor, teacher: Tensor, ratio: float | Tensor = 4.0, grid: int = 1) -> Tensor:
    """Return ratio |mean - mean|^2 + |deviation - deviation|^2, summed over C, mean over B and cells, a scalar.

    Args:
        student, teacher: [B, C, H, W].
    """
    pairs = zip(cell_statistics(student, grid), cell_statistics(teacher, grid), strict=True)
    means, deviations = ((own - given).square().sum(1).mean() for own, given in pairs)
    return ratio * means + deviations


class WKDFeatures(nn.Module):
    """``gaussian_distance`` of the last maps.

    Args:
        ratio: weight of the means; the deviations have weight 1.
        grid: cells along each side of the map.
        bottleneck: channels between the convolutions on the student's side; 0 for a single 1x1 convolution.
    """

    needs = frozenset({"features"})

    def __init__(self, ratio: float | Tensor = 4.0, grid: int = 1, bottleneck: int = 0):
        super().__init__()
        if not isinstance(ratio, Tensor) and not ratio >= 0:
            raise ValueError(f"kd.ratio is the weight of the means and must not be below 0, got {ratio}")
        if grid < 1:
            raise ValueError(f"kd.grid is a number of cells and must be 1 or more, got {grid}")
        if bottleneck < 0:
            raise ValueError(f"kd.bottleneck is a number of channels, or 0 for none, got {bottleneck}")
        self.ratio, self.grid, self.bottleneck = ratio, grid, bottleneck

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the layers from the student's channels to the teacher's.

        Raises:
            ValueError: a teacher without maps, or maps with fewer places along a side than cells.
        """
        ((own, given),) = paired_maps(student, teacher, (-1,))
        small = min(same_size(own, given)[0].shape[-2:])
        if self.grid > small:
            raise ValueError(
                f"kd.grid={self.grid} cuts the last map into {self.grid} x {self.grid} cells, and the smaller of the "
                f"two last maps has {small} places along a side: use kd.grid={small} or less, or a larger "
                "data.image_size"
            )
        warn_single_map(given, "WKD-F", "its channels have a mean and no deviation, and half of the loss is left")
        inside, outside, between = own.shape[1], given.shape[1], self.bottleneck
        layers = [conv_norm(inside, outside)]
        if between:
            layers = [conv_norm(inside, between), conv_norm(between, between, 3), conv_norm(between, outside)]
        self.widen = nn.Sequential(*(nn.Sequential(*layer, nn.ReLU()) for layer in layers))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = self.widen(student.features[-1])
        return gaussian_distance(*same_size(own, teacher.features[-1]), self.ratio, self.grid)
