"""Some random operations of one strength (Cubuk et al. 2019, https://arxiv.org/abs/1909.13719)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kd.augment._ops import OPERATIONS, WIDTH, Space, apply_operations, table
from kd.augment.checks import check_whole

SPACE = Space(shear=0.3, translate=lambda side: 150.0 / 331.0 * side, rotate=30.0, blend=0.9, bits=4)


@dataclass(frozen=True)
class RandAugment:
    """Apply ``num_ops`` of 14 operations, each drawn uniformly, at step ``magnitude`` of ``num_magnitude_bins``.

    Strengths are those of torchvision's class of this name.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31

    resizes = False

    def __post_init__(self):
        check_whole("num_ops", self.num_ops, 1, 14)
        check_whole("num_magnitude_bins", self.num_magnitude_bins, 2, 1000)
        check_whole("magnitude", self.magnitude, 0, self.num_magnitude_bins - 1)

    @property
    def draws(self) -> int:
        return 2 * self.num_ops

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 2 num_ops] in [0, 1) -> [N, 7 num_ops]: which operation and sign, see ``kd/augment/_ops.py``."""
        operation, sign = u.unflatten(1, (self.num_ops, 2)).unbind(2)
        rows = table(SPACE, self.num_magnitude_bins, side)[:, self.magnitude]
        return rows[(operation * len(OPERATIONS)).long(), (sign < 0.5).long()].flatten(1)

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        for own, seen in zip(parameters.split(WIDTH, 1), host.split(WIDTH, 1), strict=True):
            image = apply_operations(image, own, seen)
        return image
