"""The fourteen operations of RandAugment and TrivialAugment, for batches in which each image has its own.

Names, order, strengths and results are those of ``torchvision.transforms.v2`` (RandAugment, TrivialAugmentWide): the
nearest pixel is read, and what lies outside is black.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kd.augment import _color as color
from kd.augment import _geometry as geometry
from kd.augment import _tone as tone
from kd.augment._groups import apply_by_kind

WIDTH = 7  # numbers that determine an operation on an image: which function, then up to six that it reads


class Operation(NamedTuple):
    function: Callable[[Tensor, Tensor], Tensor] | None  # (images, [B, 6]) -> images; None changes nothing
    numbers: Callable[[float, int], tuple[float, ...]]  # (strength, side) -> what the function reads
    signed: bool = False  # whether half of the images get the negative strength


def _first(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that reads the first of an image's numbers only."""
    return lambda image, values: function(image, values[:, 0, None, None, None])


def _factor(strength: float, side: int) -> tuple[float, ...]:
    return (1 + strength,)


def _levels(bits: float, side: int) -> tuple[float, ...]:
    return (2**bits,)


def _itself(strength: float, side: int) -> tuple[float, ...]:
    return (strength,)


OPERATIONS = {
    "Identity": Operation(None, _itself),
    "ShearX": Operation(geometry.warp, geometry.shear_x, signed=True),
    "ShearY": Operation(geometry.warp, geometry.shear_y, signed=True),
    "TranslateX": Operation(geometry.warp, geometry.translate_x, signed=True),
    "TranslateY": Operation(geometry.warp, geometry.translate_y, signed=True),
    "Rotate": Operation(geometry.warp, geometry.rotate, signed=True),
    "Brightness": Operation(_first(color.adjust_brightness), _factor, signed=True),
    "Color": Operation(_first(color.adjust_saturation), _factor, signed=True),
    "Contrast": Operation(_first(color.adjust_contrast), _factor, signed=True),
    "Sharpness": Operation(_first(tone.adjust_sharpness), _factor, signed=True),
    "Posterize": Operation(_first(tone.posterize), _levels),
    "Solarize": Operation(_first(tone.solarize), _itself),
    "AutoContrast": Operation(_first(tone.autocontrast), _itself),
    "Equalize": Operation(_first(tone.equalize), _itself),
}
FUNCTIONS = {number: one for number, one in enumerate(dict.fromkeys(op.function for op in OPERATIONS.values())) if one}
_NUMBER_OF = {one: number for number, one in FUNCTIONS.items()}  # of a function; operations that share one are a group


class Space(NamedTuple):
    """The greatest strengths of a policy."""

    shear: float  # slope
    translate: Callable[[int], float]  # side -> pixels
    rotate: float  # degrees
    blend: float  # of brightness, colour, contrast and sharpness: factors in [1 - blend, 1 + blend]
    bits: int  # that posterize drops of 8


def strengths(name: str, space: Space, bins: int, side: int) -> Tensor:
    """Return the strength of an operation in each of ``bins`` steps, weakest first; rounded as torchvision does."""
    if name == "Posterize":
        return (8 - torch.arange(bins) / ((bins - 1) / space.bits)).round()
    if name == "Solarize":
        return torch.linspace(1, 0, bins)
    greatest = {"Shear": space.shear, "Translate": space.translate(side), "Rotate": space.rotate}
    one = greatest.get(name.rstrip("XY"), space.blend)
    return torch.linspace(0, one if OPERATIONS[name].signed else 0, bins)


@functools.lru_cache(maxsize=16)
def table(space: Space, bins: int, side: int) -> Tensor:
    """Return what determines each operation, float32 [operations, bins, 2, WIDTH]; the last two are plus and minus."""
    rows = torch.zeros(len(OPERATIONS), bins, 2, WIDTH, dtype=torch.float64)
    for place, (name, op) in enumerate(OPERATIONS.items()):
        rows[place, ..., 0] = _NUMBER_OF.get(op.function, 0)
        for step, strength in enumerate(strengths(name, space, bins, side).tolist()):
            for minus, one in enumerate((strength, -strength if op.signed else strength)):
                numbers = op.numbers(one, side)
                rows[place, step, minus, 1 : 1 + len(numbers)] = rows.new_tensor(numbers)
    return rows.float()


def apply_operations(image: Tensor, parameters: Tensor, host: Tensor) -> Tensor:
    """Return new images [B, 3, H, H]; ``parameters`` [B, WIDTH] are rows of ``table``, ``host`` the same on the CPU."""
    return apply_by_kind(image, parameters[:, 0], host[:, 0], parameters[:, 1:], FUNCTIONS)
