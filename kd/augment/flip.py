"""Mirror left and right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kd.augment.checks import check_range


@dataclass(frozen=True)
class Flip:
    """Mirror an image with a probability."""

    probability: float = 0.5

    draws = 1
    resizes = False

    def __post_init__(self):
        check_range("probability", self.probability, 0, 1)

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 1] in [0, 1) -> [N, 1], 1 for images that are mirrored, else 0."""
        return (u < self.probability).float()

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        return torch.where(parameters[:, :, None, None] > 0, image.flip(-1), image)
