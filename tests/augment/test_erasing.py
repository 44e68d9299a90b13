"""Boxes are erased by torchvision's law."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from kd.augment.erasing import RandomErasing
from tests.augment.reference import same_categories, same_numbers, uniforms


@pytest.mark.parametrize(
    ("scale", "ratio", "side"),
    [
        ((0.02, 0.33), (0.3, 3.3), 32),
        ((0.5, 1.0), (0.5, 1.5), 24),
        ((0.9, 1.0), (3.0, 4.0), 24),
        ((0, 0.01), (1, 1), 9),
    ],
)
def test_boxes_have_torchvisions_law(scale, ratio, side):
    step, theirs = RandomErasing(1.0, scale, ratio), v2.RandomErasing(1.0, scale, ratio)
    ours = step.parameters(uniforms(100_000, step.draws), side).long()
    torch.manual_seed(0)
    drawn = [theirs.make_params([torch.zeros(3, side, side)]) for _ in range(10_000)]
    boxes = torch.tensor([[one[name] for name in "ijhw"] if one["v"] is not None else [0] * 4 for one in drawn])
    for column in range(4):
        assert same_numbers(ours[:, column], boxes[:, column])
        assert same_categories(ours[:10_000, column], boxes[:, column])
    assert same_categories(ours[:10_000, 2:] // 3, boxes[:, 2:] // 3)
    assert same_categories(ours[:10_000, [0, 2]] // 3, boxes[:, [0, 2]] // 3)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_view_is_what_torchvision_makes_of_the_box(value):
    step, image = RandomErasing(0.5, value=value), torch.rand(64, 3, 20, 20)
    drawn = step.parameters(uniforms(64, step.draws), 20)
    views = step.apply(image, drawn, drawn, 20)
    for own, one, (top, left, tall, wide) in zip(views, image, drawn.int().tolist(), strict=True):
        assert torch.equal(own, tv.erase(one, top, left, tall, wide, torch.full((3, 1, 1), value)))
    erased = (drawn[:, 2:].prod(1) > 0).sum()
    assert 16 < erased < 48


def test_the_probability_is_that_of_an_image():
    step = RandomErasing(0.1)
    drawn = step.parameters(uniforms(100_000, step.draws), 32)
    assert abs((drawn[:, 2] > 0).float().mean() - 0.1) < 5 * (0.09 / 100_000) ** 0.5
    never = RandomErasing(0.0)
    assert not never.parameters(uniforms(1000, never.draws), 32).any()


@pytest.mark.parametrize("wrong", [{"probability": 1.1}, {"scale": (0.5, 2)}, {"ratio": (0, 1)}, {"value": 255}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandomErasing(**wrong)
