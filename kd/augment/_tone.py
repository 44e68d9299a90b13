"""Sharpness, posterize, solarize, autocontrast and equalize of images, each image by a number of its own.

All take images [B, 3, H, W] in [0, 1] and numbers [B, 1, 1, 1], return new images in [0, 1], and agree with
``torchvision.transforms.v2.functional`` on float images.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256  # of an image of 8 bits


def adjust_sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image (the centre of 3x3 pixels counts five times); beyond 1 it sharpens.

    The outermost pixels have no neighbours on one side and stay as they are.
    """
    if min(image.shape[-2:]) < 3:
        return image.clone()
    across = image[..., :-2] + image[..., 1:-1] + image[..., 2:]
    total = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    result, core = image.clone(), image[..., 1:-1, 1:-1]
    smooth = total.add_(core, alpha=4).div_(13)
    result[..., 1:-1, 1:-1] = smooth.sub_(core).mul_(1 - factor).add_(core).clamp_(0, 1)
    return result


def posterize(image: Tensor, levels: Tensor) -> Tensor:
    """Keep ``levels`` shades, a power of two: k / levels for k from 0."""
    return torch.minimum(image.mul(levels).floor_(), levels - 1).div_(levels)


def solarize(image: Tensor, threshold: Tensor) -> Tensor:
    """Invert all values from ``threshold`` on."""
    return torch.where(image >= threshold, 1 - image, image)


def autocontrast(image: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to [0, 1]; a channel of one value stays."""
    least, most = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
    flat = least == most
    return image.sub(torch.where(flat, 0, least)).div_(torch.where(flat, 1, most - least)).clamp_(0, 1)


def equalize(image: Tensor, _: Tensor) -> Tensor:
    """Map the 256 shades of each channel so that they become about equally frequent.

    A shade becomes the number of pixels below it divided by the number of pixels that share a shade on average, as
    Pillow counts it: without those of the brightest shade, and in whole numbers.
    """
    shades = (image * (LEVELS - 1e-3)).long().flatten(0, 1).flatten(1)  # [B C, H W], as torchvision converts
    channels, pixels = shades.shape
    flat = shades + LEVELS * torch.arange(channels, device=image.device)[:, None]
    counts = flat.new_zeros(channels * LEVELS).scatter_add_(0, flat.flatten(), flat.new_ones(1).expand(flat.numel()))
    counts = counts.view(channels, LEVELS)
    brightest = counts.gather(1, shades.amax(1, keepdim=True))
    step = (pixels - brightest) // (LEVELS - 1)
    below = counts.cumsum(1) - counts
    # the first shade stays black: nothing is below it
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=LEVELS - 1)
    table = torch.where(step > 0, table, torch.arange(LEVELS, device=image.device))  # too few pixels to spread
    return table.gather(1, shades).view(image.shape).to(image.dtype).div_(LEVELS - 1)
