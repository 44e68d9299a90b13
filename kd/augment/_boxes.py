"""Random boxes inside a square image, as torchvision draws them for RandomResizedCrop and RandomErasing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

TRIES = 10
DRAWS = 2 * TRIES + 2  # area and shape of each try; top and left


def draw_boxes(
    u: Tensor, side: int, scale: Sequence[float], ratio: Sequence[float], least: int, most: int
) -> tuple[Tensor, Tensor]:
    """Draw area and shape up to ten times until a box fits, then draw its place.

    The area is uniform, the shape is uniform in its logarithm.

    Args:
        u: float64 [N, DRAWS] in [0, 1). side: of the image, in pixels. scale: share of its area, [least, greatest].
        ratio: width / height, [least, greatest]. least, most: pixels that height and width may have.

    Returns:
        Top, left, height and width in whole pixels, float64 [N, 4]; and whether a try fitted, bool [N]. Where none
        did, the numbers mean nothing.
    """
    share, shape = u[:, : 2 * TRIES].unflatten(1, (TRIES, 2)).unbind(2)
    area = side * side * (scale[0] + (scale[1] - scale[0]) * share)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    quotient = torch.exp(low + (high - low) * shape)
    sides = torch.stack([area / quotient, area * quotient], 1).sqrt().round()  # [N, 2, TRIES]; half to even: Python's
    fits = ((sides >= least) & (sides <= most)).all(1)
    first = fits.int().argmax(1)
    sides = sides.gather(2, first[:, None, None].expand(-1, 2, 1))[..., 0]
    starts = (u[:, 2 * TRIES :] * (side - sides + 1)).floor()
    return torch.cat([starts, sides], 1), fits.any(1)
