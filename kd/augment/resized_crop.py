"""Crop a random box and resize it (Inception's crop, Szegedy et al. 2015, https://arxiv.org/abs/1409.4842)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kd.augment._boxes import DRAWS, draw_boxes
from kd.augment._resample import resample_boxes
from kd.augment.checks import check_interval


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a box of random area and shape and resize it to the size of training (bilinear, antialiased).

    The law is that of torchvision's class of this name: ten tries, then the largest central box of an allowed shape.

    Args:
        scale: least and greatest share of the image's area.
        ratio: least and greatest width / height.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    draws = DRAWS
    resizes = True

    def __post_init__(self):
        for name in ("scale", "ratio"):  # a list has no hash, and a step must have one
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_interval("scale", self.scale, 0.001, 1)
        check_interval("ratio", self.ratio, 0.1, 10)

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 22] in [0, 1) -> [N, 4], top, left, height and width of each box in pixels."""
        boxes, found = draw_boxes(u, side, self.scale, self.ratio, 1, side)
        return torch.where(found[:, None], boxes, boxes.new_tensor(self._central(side))).float()

    def _central(self, side: int) -> list[int]:
        """Return the largest central box whose shape is allowed."""
        wide = min(side, round(side * max(self.ratio)))
        tall = min(side, round(side / min(self.ratio)))
        return [(side - tall) // 2, (side - wide) // 2, tall, wide]

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        """[B, 3, side, side] -> [B, 3, size, size]; ``parameters`` [B, 4] are boxes."""
        return resample_boxes(image, parameters, size)
