"""Erase a random box (Zhong et al. 2017, https://arxiv.org/abs/1708.04896)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kd.augment._boxes import DRAWS, draw_boxes
from kd.augment._masks import inside
from kd.augment.checks import check_interval, check_range


@dataclass(frozen=True)
class RandomErasing:
    """Paint a box over with a probability, by the law of torchvision's class of this name.

    Args:
        scale: least and greatest share of the image's area. ratio: least and greatest height / width of the box.
        value: what the box is painted with, in [0, 1]; 0 is black.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float = 0.0

    draws = 1 + DRAWS
    resizes = False

    def __post_init__(self):
        for name in ("scale", "ratio"):  # a list has no hash, and a step must have one
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_range("probability", self.probability, 0, 1)
        check_interval("scale", self.scale, 0, 1)
        check_interval("ratio", self.ratio, 0.1, 10)
        check_range("value", self.value, 0, 1)

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 23] in [0, 1) -> [N, 4], top, left, height and width of each box; 0 where nothing is erased."""
        shape = (1 / self.ratio[1], 1 / self.ratio[0])  # width / height
        boxes, found = draw_boxes(u[:, 1:], side, self.scale, shape, 0, side - 1)
        return torch.where((found & (u[:, 0] < self.probability))[:, None], boxes, 0).float()

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        return image.masked_fill(inside(parameters, size), self.value)
