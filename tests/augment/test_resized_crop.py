"""Boxes are drawn by torchvision's law."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from kd.augment.resized_crop import RandomResizedCrop
from tests.augment.reference import same_categories, same_numbers, uniforms

CASES = [
    ((0.08, 1.0), (3 / 4, 4 / 3), 112),
    ((0.35, 1.0), (3 / 4, 4 / 3), 32),
    ((0.9, 1.0), (1.2, 3.0), 40),  # hardly a try fits: the central box
    ((0.2, 0.4), (0.2, 0.5), 24),
    ((0.99, 1.0), (0.3, 0.4), 24),  # no try fits, and the image is too wide
]


@pytest.mark.parametrize(("scale", "ratio", "side"), CASES)
def test_boxes_have_torchvisions_law(scale, ratio, side):
    count = 100_000
    step = RandomResizedCrop(scale, ratio)
    ours = step.parameters(uniforms(count, step.draws), side)
    theirs = theirs_of(v2.RandomResizedCrop(8, scale, ratio), side, count // 10)
    ours, thinned = ours.long(), ours[: count // 10].long()
    assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all() and (ours[:, :2] + ours[:, 2:] <= side).all()
    for column in range(4):
        assert same_numbers(ours[:, column], theirs[:, column])
        assert same_categories(thinned[:, column], theirs[:, column])
    assert same_categories(thinned[:, 2:] // 4, theirs[:, 2:] // 4)  # height and width together
    assert same_categories(thinned[:, [0, 2]] // 4, theirs[:, [0, 2]] // 4)


def theirs_of(step: v2.Transform, side: int, count: int) -> torch.Tensor:
    """Return boxes [count, 4] that torchvision draws."""
    torch.manual_seed(3)
    image = [torch.zeros(3, side, side)]
    drawn = [step.make_params(image) for _ in range(count)]
    return torch.tensor([[one["top"], one["left"], one["height"], one["width"]] for one in drawn])


@pytest.mark.parametrize("wrong", [{"scale": (0.5, 1.1)}, {"scale": (0.6, 0.5)}, {"scale": (0, 1)}, {"ratio": (0, 1)}])
def test_impossible_boxes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandomResizedCrop(**wrong)
