"""Random brightness, contrast, saturation and hue, in random order: torchvision's ColorJitter."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.augment._color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation
from kd.augment._groups import apply_by_kind
from kd.augment.checks import check_range

ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation by factors from [1 - x, 1 + x], and turn the hue; each is off at 0.

    Factors are at least 0. All orders of those that are on are equally likely, since they do not commute.

    Args:
        hue: part of the colour circle, either way; 0.5 reaches every hue.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    draws = 5
    resizes = False

    def __post_init__(self):
        for name in ("brightness", "contrast", "saturation"):
            check_range(name, getattr(self, name), 0, 10)
        check_range("hue", self.hue, 0, 0.5)

    @property
    def _on(self) -> list[int]:
        """Return which of ``ADJUST`` are on."""
        given = (self.brightness, self.contrast, self.saturation, self.hue)
        return [kind for kind, most in enumerate(given) if most > 0]

    def parameters(self, u: Tensor, side: int) -> Tensor:
        """[N, 5] in [0, 1) -> [N, 4 + number of those that are on]: a factor of each, then their order."""
        low = u.new_tensor([max(0, 1 - x) for x in (self.brightness, self.contrast, self.saturation)] + [-self.hue])
        high = u.new_tensor([1 + self.brightness, 1 + self.contrast, 1 + self.saturation, self.hue])
        factors = low + (high - low) * u[:, :4]
        orders = u.new_tensor(list(itertools.permutations(self._on)))
        return torch.cat([factors, orders[(u[:, 4] * len(orders)).long()]], 1).float()

    def apply(self, image: Tensor, parameters: Tensor, host: Tensor, size: int) -> Tensor:
        factors = parameters[:, :4, None, None, None]
        if len(self._on) == 1:
            only = self._on[0]
            return ADJUST[only](image, factors[:, only])
        functions = {kind: _adjust(kind) for kind in self._on}
        for place in range(4, parameters.shape[1]):
            image = apply_by_kind(image, parameters[:, place], host[:, place], factors, functions)
        return image


def _adjust(kind: int):
    """Return the function that adjusts images by the factor of this kind."""
    return lambda image, factors: ADJUST[kind](image, factors[:, kind])
