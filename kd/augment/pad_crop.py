"""Pad with zeros and crop back to size: what networks for CIFAR are trained with (He et al. 2015, section 4.2,
https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.augment.checks import check_whole


@dataclass(frozen=True)
class PadCrop:
    """Shift an image by up to ``padding`` whole pixels, each way and each shift equally likely; outside it is black."""

    padding: int = 4

    draws = 2
    resizes = False

    def __post_init__(self):
        check_whole("padding", self.padding, 1, 256)

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 2] in [0, 1) -> [N, 2], top and left of the crop in the padded image."""
        return (u * (2 * self.padding + 1)).floor().float()

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        padded = F.pad(image, [self.padding] * 4)
        crops = padded.unfold(2, size, 1).unfold(3, size, 1)  # a view: [B, C, places, places, size, size]
        top, left = parameters.long().unbind(1)
        return crops[torch.arange(len(image), device=image.device), :, top, left]
