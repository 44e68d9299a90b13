"""Mixup and CutMix: who is mixed with whom, by how much, and where."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from kd.augment.mixing import DRAWS, cutmix_boxes, mix, mixture
from tests.augment.reference import same_categories, same_numbers, uniforms

SIDE = 33


def test_one_draw_decides_between_mixup_cutmix_and_neither():
    u = uniforms(100_000, DRAWS)
    partner, weight, box = mixture(0.2, 0.5, u, 700, SIDE)
    cut = (u[:, 0] >= 0.2) & (u[:, 0] < 0.7)
    mixed = u[:, 0] < 0.2
    assert (box[~cut] == 0).all() and (weight[~cut & ~mixed] == 1).all()
    assert (weight[mixed] >= 0.5).all() and abs(weight[mixed].mean() - 0.75) < 0.01
    assert abs(cut.float().mean() - 0.5) < 0.01 and (box[cut][:, 2:].prod(1) > 0).float().mean() > 0.98
    counts = torch.bincount(partner, minlength=700)
    assert len(counts) == 700
    assert ((counts - 100_000 / 700).double().square() / (100_000 / 700)).sum() < 699 + 5 * 1398**0.5


def test_cutmix_has_torchvisions_law():
    u = uniforms(100_000, DRAWS)
    _, weight, box = mixture(0, 1, u, 10, SIDE)
    theirs = v2.CutMix(num_classes=10)
    torch.manual_seed(0)
    drawn = [theirs.make_params([torch.zeros(2, 3, SIDE, SIDE)]) for _ in range(20_000)]
    boxes = torch.tensor([one["box"] for one in drawn])[:, [1, 0, 3, 2]]  # x before y
    boxes[:, 2:] -= boxes[:, :2]
    assert same_numbers(weight, torch.tensor([one["lam_adjusted"] for one in drawn]))
    for column in range(4):
        assert same_categories(box[:20_000, column], boxes[:, column])
    assert same_categories(box[:20_000, 2:] // 3, boxes[:, 2:] // 3)
    assert same_categories(box[:20_000, [0, 2]] // 3, boxes[:, [0, 2]] // 3)


def test_a_weight_is_the_share_of_pixels_that_stay():
    u = uniforms(500, DRAWS)
    _, weight, box = mixture(0.3, 0.6, u, 10, SIDE)
    own, other = torch.ones(500, 1, SIDE, SIDE), torch.zeros(500, 1, SIDE, SIDE)
    torch.testing.assert_close(mix(own, other, weight, box).mean((1, 2, 3)), weight, rtol=0, atol=1e-6)


def test_a_box_holds_the_other_image_and_the_rest_its_own_to_the_bit():
    u = uniforms(50, DRAWS)
    _, weight, box = mixture(0.0, 1.0, u, 10, SIDE)
    own, other = torch.rand(50, 3, SIDE, SIDE), torch.rand(50, 3, SIDE, SIDE)
    expected = own.clone()
    for one, source, (top, left, tall, wide) in zip(expected, other, box.tolist(), strict=True):
        one[:, top : top + tall, left : left + wide] = source[:, top : top + tall, left : left + wide]
    assert torch.equal(mix(own, other, weight, box), expected)


def test_without_cutmix_it_is_mixup_alone():
    u = uniforms(100, DRAWS)
    partner, weight, box = mixture(0.5, 0.0, u, 10, SIDE)
    assert box is None
    own, other = torch.rand(100, 3, 8, 8), torch.rand(100, 3, 8, 8)
    mixed = mix(own, other, weight, box)
    assert torch.equal(mixed[weight == 1], own[weight == 1])
    again = mixture(0.5, 0.0, u[:, :3], 10, SIDE)  # it reads three of the numbers
    assert torch.equal(again[0], partner) and torch.equal(again[1], weight)
    half = weight[:, None, None, None]
    torch.testing.assert_close(mixed, half * own + (1 - half) * other)


def test_a_share_of_nothing_is_the_whole_image_where_the_centre_is_central():
    zero, middle = torch.zeros(1), torch.full((1,), 0.5)
    assert cutmix_boxes(zero, middle, middle, 32).tolist() == [[0, 0, 32, 32]]
    assert cutmix_boxes(zero, zero, zero, 32).tolist() == [[0, 0, 16, 16]]


def test_probabilities_sum_to_at_most_one():
    mixture(0.1, 0.9, uniforms(4, DRAWS), 10, SIDE)
    with pytest.raises(ValueError, match="0.6"):
        mixture(0.5, 0.6, uniforms(4, DRAWS), 10, SIDE)
