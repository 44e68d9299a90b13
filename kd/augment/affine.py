"""Random flip, shift, zoom and rotation in one bilinear sampling; what lies outside is reflected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.augment.checks import check_range


@dataclass(frozen=True)
class Affine:
    """Flip, shift, zoom and rotate; each is off at 0. ``Affine()`` changes nothing."""

    flip: float = 0.0  # probability of mirroring left and right
    shift: float = 0.0  # at most this fraction of the side, either way
    zoom: float = 0.0  # scale in [1 - zoom, 1 + zoom]
    rotate: float = 0.0  # degrees, either way

    draws = 5
    resizes = False

    def __post_init__(self):
        for name, top in {"flip": 1, "shift": 1, "zoom": 0.9, "rotate": 180}.items():
            check_range(name, getattr(self, name), 0, top)

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """Return the affine maps that determine the views.

        Args:
            u: float64 [N, 5] in [0, 1).

        Returns:
            float32 [N, 6]: the numbers of each map, row by row.
        """
        either = (2 * u - 1).to(torch.float32)
        mirror = torch.where(u[:, 0] < self.flip, -1.0, 1.0)
        zoom = 1 + self.zoom * either[:, 1]
        angle = math.radians(self.rotate) * either[:, 2]
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        across, down = 2 * self.shift * either[:, 3], 2 * self.shift * either[:, 4]
        return torch.stack([cos * mirror, -sin, across, sin * mirror, cos, down], 1)

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        """Return the views [B, C, H, W] of images [B, C, H, W] that ``parameters`` [B, 6] determine."""
        if self.shift or self.zoom or self.rotate:
            grid = sampling_grid(parameters, *image.shape[-2:], turned=self.rotate > 0)
            return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        if self.flip:
            return torch.where(parameters[:, 0, None, None, None] < 0, image.flip(-1), image)
        return image


def sampling_grid(parameters: Tensor, height: int, width: int, turned: bool = True) -> Tensor:
    """Return the places [B, H, W, 2] that the pixels of views are read from, those of ``F.affine_grid`` to the bit.

    ``F.affine_grid`` builds the places of the pixels anew for each image, which takes longer than sampling them.

    Args:
        parameters: [B, 6], see ``Affine.parameters``.
        turned: False if no map turns: then columns and rows are apart, and no matrix product is needed.
    """
    columns, rows = _centres(width, parameters.device), _centres(height, parameters.device)
    if turned:
        places = columns.new_ones(height, width, 3)
        places[..., 0], places[..., 1] = columns, rows[:, None]
        theta = parameters.unflatten(1, (2, 3)).transpose(1, 2)
        return places.view(1, -1, 3).expand(len(theta), -1, -1).bmm(theta).view(-1, height, width, 2)
    grid = parameters.new_empty(len(parameters), height, width, 2)
    grid[..., 0] = (columns * parameters[:, 0, None] + parameters[:, 2, None])[:, None]
    grid[..., 1] = (rows * parameters[:, 4, None] + parameters[:, 5, None])[:, :, None]
    return grid


def _centres(count: int, device: torch.device) -> Tensor:
    """Return the centres of ``count`` pixels between -1 and 1."""
    return torch.linspace(-1, 1, count, device=device) * (count - 1) / count
