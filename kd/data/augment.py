"""Augmentation of whole batches, as a pure function of (seed, epoch, index).

A view does not depend on batch size, order, worker, rank or device. So a teacher's logits on every view can be cached
once, a resumed run sees the same views as an uninterrupted one, and the labels-only baseline sees the same views as
the student.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.checks import check_range
from kd.runtime.rng import random_bits


def random_uniforms(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Return [B, count] float64 numbers in [0, 1) that depend on (seed, epoch, index) alone."""
    return ((random_bits(seed, epoch, index, count) >> 11) & 0x1F_FFFF_FFFF_FFFF).double() * 2.0**-53


@dataclass(frozen=True)
class Augment:
    """Random flip, shift, zoom, rotation and colour jitter; each is off at 0. ``Augment()`` changes nothing."""

    flip: float = 0.0  # probability of mirroring left and right
    shift: float = 0.0  # at most this fraction of the side, either way
    zoom: float = 0.0  # scale in [1 - zoom, 1 + zoom]
    rotate: float = 0.0  # degrees, either way
    jitter: float = 0.0  # brightness and contrast factors in [1 - jitter, 1 + jitter]

    def __post_init__(self):
        for name, top in {"flip": 1, "shift": 1, "zoom": 0.9, "rotate": 180, "jitter": 1}.items():
            check_range(f"augment.{name}", getattr(self, name), 0, top)

    def __call__(self, image: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
        """Return the view of each image for (seed, epoch, index).

        Args:
            image: [B, C, H, W] in [0, 1], on any device. index: [B] int64, on the CPU.
        """
        return self.apply(image, self.parameters(seed, epoch, index).to(image.device))

    def parameters(self, seed: int, epoch: int, index: Tensor) -> Tensor:
        """Return what determines the views: an affine map and the factors of brightness and contrast of each image.

        Args:
            index: [N] int64, on the CPU: of a batch, or of a whole epoch at once.

        Returns:
            float32 [N, 8], on the CPU: six numbers of the map, row by row, then brightness and contrast.
        """
        u = random_uniforms(seed, epoch, index, 7)
        side = (2 * u - 1).to(torch.float32)
        mirror = torch.where(u[:, 0] < self.flip, -1.0, 1.0)
        zoom = 1 + self.zoom * side[:, 1]
        angle = math.radians(self.rotate) * side[:, 2]
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        light = [1 + self.jitter * side[:, 5], 1 + self.jitter * side[:, 6]]
        across, down = 2 * self.shift * side[:, 3], 2 * self.shift * side[:, 4]
        return torch.stack([cos * mirror, -sin, across, sin * mirror, cos, down, *light], 1)

    def apply(self, image: Tensor, parameters: Tensor) -> Tensor:
        """Return the views that ``parameters`` determine.

        Args:
            image: [B, C, H, W] in [0, 1]. parameters: float32 [B, 8], on the device of the images.
        """
        if self.shift or self.zoom or self.rotate:
            grid = sampling_grid(parameters, *image.shape[-2:], turned=self.rotate > 0)
            image = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        elif self.flip:
            image = torch.where(parameters[:, 0, None, None, None] < 0, image.flip(-1), image)
        if self.jitter:
            brightness, contrast = parameters[:, 6:, None, None, None].unbind(1)
            grey = image.mean((1, 2, 3), keepdim=True)
            image = (((image - grey) * contrast + grey) * brightness).clamp(0, 1)
        return image


def sampling_grid(parameters: Tensor, height: int, width: int, turned: bool = True) -> Tensor:
    """Return the places [B, H, W, 2] that the pixels of views are read from, those of ``F.affine_grid`` to the bit.

    ``F.affine_grid`` builds the places of the pixels anew for each image, which takes longer than sampling them.

    Args:
        parameters: [B, 8], see ``Augment.parameters``.
        turned: False if no map turns: then columns and rows are apart, and no matrix product is needed.
    """
    columns, rows = _centres(width, parameters.device), _centres(height, parameters.device)
    if turned:
        places = columns.new_ones(height, width, 3)
        places[..., 0], places[..., 1] = columns, rows[:, None]
        theta = parameters[:, :6].unflatten(1, (2, 3)).transpose(1, 2)
        return places.view(1, -1, 3).expand(len(theta), -1, -1).bmm(theta).view(-1, height, width, 2)
    grid = parameters.new_empty(len(parameters), height, width, 2)
    grid[..., 0] = (columns * parameters[:, 0, None] + parameters[:, 2, None])[:, None]
    grid[..., 1] = (rows * parameters[:, 4, None] + parameters[:, 5, None])[:, :, None]
    return grid


def _centres(count: int, device: torch.device) -> Tensor:
    """Return the centres of ``count`` pixels between -1 and 1."""
    return torch.linspace(-1, 1, count, device=device) * (count - 1) / count


def mixture(probability: float, seed: int, epoch: int, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the partner of each image and the weight of the image itself (mixup, https://arxiv.org/abs/1710.09412).

    The partner is drawn from the whole training set by (seed, epoch, index), not from the batch. So a mixed view, too,
    is the same in every batch, on every device and in a teacher's logit cache. The weight is max(u, 1 - u) for u
    uniform in [0, 1): the paper's Beta(1, 1) with the larger weight first, so that an image's own label dominates.

    Args:
        probability: that an image is mixed at all. index: [B] int64, on the CPU. count: number of training images.

    Returns:
        Rows among the training images, int64 [B], and weights in [0.5, 1], float32 [B]: 1 where nothing is mixed in.
    """
    whether, partner, u = random_uniforms(seed, epoch, index, 10)[:, 7:].unbind(1)  # the view uses the first seven
    weight = torch.where(whether < probability, torch.maximum(u, 1 - u), 1.0)
    return (partner * count).long(), weight.float()
