"""Random brightness, contrast, saturation and hue, in random order: torchvision's ColorJitter."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.augment._color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grey, mean_grey
from kd.augment.checks import check_range

ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


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
        factors, on = parameters[:, :4], self._on
        if len(on) == 1:
            return ADJUST[on[0]](image, factors[:, on[0], None, None, None])
        for place in range(4, parameters.shape[1]):
            image = adjust_each(image, parameters[:, place], host[:, place], factors, on)
        return image


def adjust_each(image: Tensor, kinds: Tensor, host: Tensor, factors: Tensor, on: Sequence[int]) -> Tensor:
    """Apply one of ``ADJUST`` to each image: the results are those of its function, to the bit.

    Brightness, contrast and saturation blend an image with black, its mean grey and its grey image. So all images are
    blended at once, each with its own, and only those whose hue is turned are taken out and put back.

    Args:
        image: [B, 3, H, W]. kinds: [B], which one, on the device of the images. host: the same on the CPU.
        factors: [B, 4]. on: those that occur.
    """
    factor = factors.gather(1, kinds.long()[:, None])[:, :, None, None]
    is_kind = (kinds[:, None] == torch.arange(4, device=kinds.device)).to(image.dtype)[..., None, None, None]
    factor = torch.where(is_kind[:, HUE] > 0, torch.ones_like(factor), factor)  # which changes nothing
    result = image.mul(factor)
    if CONTRAST in on or SATURATION in on:
        plain = grey(image)
        other = mean_grey(plain) * is_kind[:, CONTRAST] if CONTRAST in on else 0
        other = other + plain * is_kind[:, SATURATION] if SATURATION in on else other
        result.add_(other * (1 - factor))
    result.clamp_(0, 1)
    if HUE in on and (count := int((host == HUE).sum())):
        rows = is_kind[:, HUE].flatten().argsort(descending=True, stable=True)[:count]
        turned = adjust_hue(image.index_select(0, rows), factors.index_select(0, rows)[:, HUE, None, None, None])
        result.index_copy_(0, rows, turned)
    return result
