"""Colours change as torchvision's ColorJitter changes them, in an order drawn for each image."""

from __future__ import annotations

import itertools

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from kd.augment import _color
from kd.augment.color_jitter import ADJUST, ColorJitter, adjust_each
from tests.augment.reference import SIZES, images, same_categories, same_numbers, uniforms, unit

THEIRS = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
FACTORS = (0.0, 0.3, 0.9, 1.0, 1.4, 2.5)
TURNS = (-0.5, -0.31, -0.1, 0.0, 0.05, 0.2, 0.5)
# on 8 bits torchvision drops fractions of the grey and then of the result: up to two levels
COARSE = {"adjust_contrast": 2, "adjust_saturation": 2}


@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("kind", range(4))
def test_each_operation_agrees_with_torchvision(kind, side):
    pixels = images(side)
    name = THEIRS[kind].__name__
    for factor in TURNS if name == "adjust_hue" else FACTORS:
        ours = ADJUST[kind](unit(pixels), torch.full((len(pixels), 1, 1, 1), factor))
        torch.testing.assert_close(ours, THEIRS[kind](unit(pixels), factor), rtol=0, atol=2e-6)
        reach = max(1.0, abs(1 - factor))  # how much a dropped fraction grows
        apart = (ours - unit(THEIRS[kind](pixels, factor))).abs().max()
        assert apart <= COARSE.get(name, 1) * reach / 255 + 1e-6, factor


def test_hue_is_right_for_every_colour():
    """The corners and edges of the colour cube, where the greatest channel changes."""
    levels = torch.tensor([0, 0.25, 0.5, 1.0])
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 8, 8)
    for turn in TURNS:
        ours = _color.adjust_hue(cube, torch.full((1, 1, 1, 1), turn))
        torch.testing.assert_close(ours, tv.adjust_hue(cube, turn), rtol=0, atol=2e-6)


@pytest.mark.parametrize("given", [(0.4, 0.4, 0.4, 0.1), (0.4, 0, 0.2, 0), (0, 0, 0, 0.5), (0, 1.5, 0, 0)])
def test_a_view_is_what_torchvision_makes_of_the_drawn_numbers(given):
    step, pixels = ColorJitter(*given), images(32).repeat(8, 1, 1, 1)
    drawn = step.parameters(uniforms(len(pixels), step.draws), 32)
    views = step.apply(unit(pixels), drawn, drawn, 32)
    for image, row, own in zip(unit(pixels), drawn.tolist(), views, strict=True):
        for kind in map(int, row[4:]):
            image = THEIRS[kind](image, row[kind])
        torch.testing.assert_close(own, image, rtol=0, atol=1e-5)


def test_factors_and_orders_have_torchvisions_law():
    step, theirs = ColorJitter(0.4, 1.5, 0.2, 0.1), v2.ColorJitter(0.4, 1.5, 0.2, 0.1)
    ours = step.parameters(uniforms(100_000, step.draws), 32)
    torch.manual_seed(0)
    drawn = [theirs.make_params([]) for _ in range(20_000)]
    for kind, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert same_numbers(ours[:, kind], torch.tensor([one[f"{name}_factor"] for one in drawn]))
    orders = torch.stack([one["fn_idx"] for one in drawn])
    assert len(orders.unique(dim=0)) == len(list(itertools.permutations(range(4))))
    assert same_categories(ours[:20_000, 4:].long(), orders)
    correlation = torch.corrcoef(ours[:, :5].T)  # factors and the first of the order
    assert (correlation - torch.eye(5)).abs().max() < 0.02


def test_operations_that_are_off_are_in_no_order():
    step = ColorJitter(0.4, 0, 0.4, 0)
    drawn = step.parameters(uniforms(1000, step.draws), 32)
    assert {tuple(row) for row in drawn[:, 4:].int().tolist()} == {(0, 2), (2, 0)}
    image = torch.rand(3, 3, 8, 8)
    off = ColorJitter()
    none = off.parameters(uniforms(3, off.draws), 8)
    assert torch.equal(off.apply(image, none, none, 8), image)


def test_a_batch_of_mixed_operations_is_each_of_them_to_the_bit():
    image, kinds = unit(images(32)).repeat(4, 1, 1, 1), torch.arange(20) % 4
    factors = torch.rand(20, 4, generator=torch.manual_seed(0)) + 0.5
    together = adjust_each(image, kinds.float(), kinds.float(), factors, range(4))
    for row, kind in enumerate(kinds.tolist()):
        alone = ADJUST[kind](image[row : row + 1], factors[row, kind].view(1, 1, 1, 1))
        assert torch.equal(together[row], alone[0]), kind


@pytest.mark.parametrize("wrong", [{"hue": 0.6}, {"brightness": -0.1}, {"saturation": "much"}])
def test_impossible_factors_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ColorJitter(**wrong)
