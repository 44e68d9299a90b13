"""Shifts of whole pixels, black outside."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kd.augment.pad_crop import PadCrop
from tests.augment.reference import uniforms


def test_a_view_is_a_crop_of_the_padded_image():
    step, image = PadCrop(4), torch.rand(200, 3, 12, 12)
    drawn = step.parameters(uniforms(200, step.draws), 12)
    views = step.apply(image, drawn, drawn, 12)
    for own, padded, (top, left) in zip(views, F.pad(image, [4] * 4), drawn.long().tolist(), strict=True):
        assert torch.equal(own, padded[:, top : top + 12, left : left + 12])


def test_all_shifts_are_equally_likely():
    step = PadCrop(2)
    drawn = step.parameters(uniforms(100_000, 2), 12).long()
    counts = torch.bincount(drawn @ torch.tensor([5, 1]), minlength=25)
    assert len(counts) == 25  # chi-square, 24 degrees of freedom, five standard deviations
    assert ((counts - 4000).double().square() / 4000).sum() < 24 + 5 * 48**0.5


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True])
def test_the_padding_is_at_least_a_whole_pixel(wrong):
    with pytest.raises(ValueError, match="padding"):
        PadCrop(wrong)
