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


def mean_grey(image: Tensor) -> Tensor:
    """[B, 1, H, W] -> [B, 1, 1, 1]; in two steps, since the bits of one sum over all would depend on the batch."""
    return image.mean(-1, keepdim=True).mean(-2, keepdim=True)


def blend(image: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return ``factor`` parts of the image and ``1 - factor`` of the other, clamped: beyond 1 it moves away from it."""
    return image.mul(factor).add_(other * (1 - factor)).clamp_(0, 1)


def adjust_brightness(image: Tensor, factor: Tensor) -> Tensor:
    return image.mul(factor).clamp_(0, 1)


def adjust_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of the image."""
    return blend(image, mean_grey(grey(image)), factor)


def adjust_saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return blend(image, grey(image), factor)


def adjust_hue(image: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by ``turn`` of a circle.

    Saturation and value of HSV stay, so the least and the greatest channel do, and no conversion back is needed: on a
    circle of length 6 with red at 0, green at 2 and blue at 4, a channel has the greatest value up to a distance of 1
    from the hue, the least from a distance of 2, and lies between them in between.
    """
    red, green, blue = image.split(1, 1)
    most = torch.maximum(torch.maximum(red, green), blue)  # amax over three channels takes ten times as long
    least = torch.minimum(torch.minimum(red, green), blue)
    span = most - least
    is_red, is_green = most == red, most == green
    apart = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    centre = is_green.to(image.dtype).mul_(-2).add_(4).mul_(~is_red)  # of the greatest: 0, 2 or 4
    hue = apart.div_(span.clamp(min=1e-12)).add_(centre).add_(6 * turn)  # grey has no hue, and its span is 0
    hue = hue.sub_(hue.div(6).floor_().mul_(6))
    shares = ((hue - 3).abs_().sub_(1), 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_())
    return torch.cat(shares, 1).clamp_(0, 1).mul_(span).add_(least)
