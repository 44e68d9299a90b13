"""Brightness, contrast, saturation and hue of images, each image by a factor of its own.

All take images [B, 3, H, W] in [0, 1] and numbers [B, 1, 1, 1], return new images in [0, 1], and agree with
``torchvision.transforms.v2.functional`` on float images.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue in grey, ITU-R 601 as torchvision rounds it


def grey(image: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W]."""
    red, green, blue = image.split(1, 1)
    return red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def blend(image: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return ``factor`` parts of the image and ``1 - factor`` of the other, clamped: beyond 1 it moves away from it."""
    return image.mul(factor).add_(other * (1 - factor)).clamp_(0, 1)


def adjust_brightness(image: Tensor, factor: Tensor) -> Tensor:
    return image.mul(factor).clamp_(0, 1)


def adjust_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of the image."""
    mean = grey(image).mean(-1, keepdim=True).mean(-2, keepdim=True)  # in two steps: the bits of an image alone
    return blend(image, mean, factor)


def adjust_saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return blend(image, grey(image), factor)


def adjust_hue(image: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by ``turn`` of a circle.

    Saturation and value of HSV stay, so no conversion back is needed: a channel is the greatest one minus its distance
    from it on the colour circle times the range of the channels.
    """
    least, most = torch.aminmax(image, dim=1, keepdim=True)
    span = most - least
    red, green, blue = image.split(1, 1)
    safe = torch.where(span > 0, span, 1)
    sector = torch.where(
        most == red,
        (green - blue) / safe,
        torch.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = sector + 6 * turn  # on a circle of 6: red at 0, green at 2, blue at 4
    places = sector.new_tensor([5, 3, 1])[:, None, None]
    apart = (places + sector).remainder(6)  # [B, 3, H, W]
    return most - span * torch.minimum(apart, 4 - apart).clamp_(0, 1)
