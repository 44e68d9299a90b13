"""Every operation at every strength does what torchvision does, on images of any size."""

from __future__ import annotations

import pytest
import torch

from kd.augment._ops import OPERATIONS, apply_operations
from tests.augment.reference import (
    SIZES,
    SPACES,
    images,
    rows_of,
    torchvision_operation,
    torchvision_strengths,
    unit,
)

# on 8 bits torchvision drops fractions of the grey or smoothed image and then of the result: up to two levels
COARSE = {"Color": 2, "Contrast": 2, "Sharpness": 2}


def test_names_order_and_signs_are_torchvisions():
    for _, theirs in SPACES.values():
        assert list(theirs._AUGMENTATION_SPACE) == list(OPERATIONS)
        signs = {name: signed for name, (_, signed) in theirs._AUGMENTATION_SPACE.items()}
        assert signs == {name: op.signed for name, op in OPERATIONS.items()}


def applied(name, policy, side):
    """Yield each strength with sign, the 8-bit images, and what the operation makes of them as [0, 1]."""
    rows, pixels = rows_of(policy, name, side), images(side)
    strengths = torchvision_strengths(policy, name, side)
    signed = torch.stack([strengths, -strengths if OPERATIONS[name].signed else strengths], 1).flatten().tolist()
    for strength, row in zip(signed, rows, strict=True):
        many = row.expand(len(pixels), -1)
        yield strength, pixels, apply_operations(unit(pixels), many, many)


GEOMETRY = tuple(name for name in OPERATIONS if name.startswith(("Shear", "Translate", "Rotate")))


def is_decided(name, strength, side):
    """Return a mask [H, W], False where a pixel is read from half-way between two.

    There rounding decides, and torchvision's matrix product rounds differently on each kind of processor: with shears
    of small images as ours on AVX2, otherwise with AVX-512.
    """
    if name not in GEOMETRY:
        return torch.ones(side, side, dtype=torch.bool)
    a, b, c, d, e, f = OPERATIONS[name].numbers(strength, side)
    centres = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([a * x + b * y + c, d * x + e * y + f]) + (side - 1) / 2
    return ((places % 1 - 0.5).abs() > 1e-4).all(0)


@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("policy", SPACES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_agrees_with_torchvision(name, policy, side):
    for strength, pixels, ours in applied(name, policy, side):
        mask = is_decided(name, strength, side)
        assert mask.float().mean() > 0.7 or not strength
        exact = torch.stack([torchvision_operation(policy, x, name, strength) for x in unit(pixels)])
        torch.testing.assert_close(
            ours[..., mask],
            exact[..., mask],
            rtol=0,
            atol=1e-6,
            msg=lambda m: f"{strength}: {m}",  # noqa: B023
        )
        coarse = torch.stack([torchvision_operation(policy, x, name, strength) for x in pixels])
        apart = (ours - unit(coarse))[..., mask].abs().max().item()
        assert apart <= COARSE.get(name, 1) / 255 + 1e-6, strength


@pytest.mark.parametrize("side", (8, 33, 63, 64, 224))
@pytest.mark.parametrize("name", GEOMETRY)
def test_the_same_pixel_is_read_at_more_sizes(name, side):
    """Every pixel has a number of its own, so that one read from a neighbour shows."""
    numbers = torch.arange(1, 1 + side * side).view(1, side, side).expand(3, -1, -1).float()
    for policy in SPACES:
        rows = rows_of(policy, name, side)
        ours = apply_operations(numbers.expand(len(rows), -1, -1, -1), rows, rows)
        strengths = torchvision_strengths(policy, name, side).tolist()
        signed = [sign * x for x in strengths for sign in (1, -1)]
        for x, own in zip(signed, ours, strict=True):
            mask = is_decided(name, x, side)
            assert torch.equal(own[:, mask], torchvision_operation(policy, numbers, name, x)[:, mask])


def test_values_between_the_levels_of_8_bits_agree_too():
    """Images that were resized before have any value; equalize is torchvision's on floats."""
    image = torch.rand(4, 3, 32, 32, generator=torch.manual_seed(1)).square()
    for name in OPERATIONS:
        row = rows_of("trivial", name, 32)[40]
        strength = torchvision_strengths("trivial", name, 32)[20].item()
        theirs = torch.stack([torchvision_operation("trivial", x, name, strength) for x in image])
        many = row.expand(4, -1)
        torch.testing.assert_close(apply_operations(image, many, many), theirs, rtol=0, atol=1e-6)
