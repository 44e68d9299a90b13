"""Shear, shift and turn images, each by an affine map of its own, reading the nearest pixel; outside it is black.

A map (a, b, c, d, e, f) reads the pixel at (a x + b y + c, d x + e y + f) for the one at (x, y), in pixels from the
centre of the image. The maps are those of torchvision's RandAugment and TrivialAugmentWide.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Map = tuple[float, float, float, float, float, float]


def shear_x(slope: float, side: int) -> Map:
    """Return the map that keeps the top left corner and shifts each row by ``slope`` times its distance from it."""
    slope = math.tan(_angle(slope))
    return 1, slope, slope * side / 2, 0, 1, 0


def shear_y(slope: float, side: int) -> Map:
    """Return the map that keeps the top left corner and shifts each column by ``slope`` times its distance from it."""
    angle, corner = _angle(slope), -side / 2
    slope = math.sin(angle) / math.cos(angle)
    return 1, 0, 0, slope, 1, corner - slope * corner - corner


def _angle(slope: float) -> float:
    """Return the angle of a slope, with the rounding errors of torchvision, which passes it on in degrees.

    These errors, and those of the two functions above, decide how a map is rounded to float32, and that decides which
    pixel is read half-way between two.
    """
    return math.radians(math.degrees(math.atan(slope)))


def translate_x(pixels: float, side: int) -> Map:
    """Return the map that shifts to the right, by whole pixels: the rest is cut off."""
    return 1, 0, -int(pixels), 0, 1, 0


def translate_y(pixels: float, side: int) -> Map:
    return 1, 0, 0, 0, 1, -int(pixels)


def rotate(degrees: float, side: int) -> Map:
    """Return the map that turns about the centre, anticlockwise."""
    angle = math.radians(-(degrees % 360))
    return math.cos(angle), math.sin(angle), 0, -math.sin(angle), math.cos(angle), 0


def warp(image: Tensor, maps: Tensor) -> Tensor:
    """Return the images [B, C, H, H] that ``maps`` [B, 6] show of images [B, C, H, H].

    A place half-way between two pixels is decided by rounding. Products and sums are rounded one by one, in the order
    of ``torchvision.transforms.v2.functional.affine``, so the same pixel is read. A matrix product, which other
    libraries compute otherwise, does not promise that.
    """
    side = image.shape[-1]
    centres = torch.arange(side, device=image.device) - (side - 1) / 2
    maps = maps[..., None] / (0.5 * side)
    grid = torch.stack([_places(centres, *maps[:, :3].unbind(1)), _places(centres, *maps[:, 3:].unbind(1))], -1)
    return F.grid_sample(image, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _places(centres: Tensor, across: Tensor, down: Tensor, shift: Tensor) -> Tensor:
    """Return one coordinate of the places that pixels are read from, [B, H, H]."""
    return (centres * across)[:, None, :] + (centres * down)[:, :, None] + shift[..., None]
