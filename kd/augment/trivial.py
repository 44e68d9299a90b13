"""One random operation of random strength (Müller & Hutter 2021, https://arxiv.org/abs/2103.10158)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kd.augment._ops import OPERATIONS, Space, apply_operations, table
from kd.augment.checks import check_whole

WIDE = Space(shear=0.99, translate=lambda side: 32.0, rotate=135.0, blend=0.99, bits=6)


@dataclass(frozen=True)
class TrivialAugmentWide:
    """Apply one of 14 operations, drawn uniformly, at a strength drawn uniformly from ``num_magnitude_bins`` steps.

    Strengths are those of torchvision's class of this name. It shifts by up to 32 pixels whatever the image's size, so
    on 32 pixels a shift may leave nothing.
    """

    num_magnitude_bins: int = 31

    draws = 3
    resizes = False

    def __post_init__(self):
        check_whole("num_magnitude_bins", self.num_magnitude_bins, 2, 1000)

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 3] in [0, 1) -> [N, 7]: which operation at which strength, see ``kd/augment/_ops.py``."""
        operation, step = (u[:, 0] * len(OPERATIONS)).long(), (u[:, 1] * self.num_magnitude_bins).long()
        return table(WIDE, self.num_magnitude_bins, side)[operation, step, (u[:, 2] < 0.5).long()]

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        return apply_operations(image, parameters, host)
