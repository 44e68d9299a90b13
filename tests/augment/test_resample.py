"""A box of each image is resized as torchvision resizes it."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from kd.augment._resample import resample_boxes
from tests.augment.reference import images, unit


def boxes_of(count: int, side: int) -> torch.Tensor:
    """Return random boxes [count, 4], the first of them the whole image and the next single pixels."""
    generator = torch.manual_seed(side)
    length = torch.randint(1, side + 1, (count, 2), generator=generator)
    length[0], length[1] = side, 1
    start = (torch.rand(count, 2, generator=generator) * (side - length + 1)).long()
    return torch.cat([start, length], 1)


@pytest.mark.parametrize(
    ("side", "size"), [(112, 100), (100, 100), (36, 32), (64, 32), (100, 31), (31, 100), (33, 8), (256, 32)]
)
def test_it_agrees_with_resized_crop(side, size):
    pixels = images(side).repeat(6, 1, 1, 1)
    boxes = boxes_of(len(pixels), side)
    ours = resample_boxes(unit(pixels), boxes.float(), size)
    for image, coarse, box, own in zip(unit(pixels), pixels, boxes.tolist(), ours, strict=True):
        theirs = tv.resized_crop(image, *box, [size, size], antialias=True)
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-6)
        theirs = tv.resized_crop(coarse, *box, [size, size], antialias=True)
        assert (own - unit(theirs)).abs().max() <= 1.02 / 255  # it rounds rows, then columns
    assert ours.min() >= 0 and ours.max() <= 1


def test_the_whole_image_at_its_own_size_stays_to_the_bit():
    image = torch.rand(3, 3, 20, 20)
    assert torch.equal(resample_boxes(image, torch.tensor([[0, 0, 20, 20]]).expand(3, 4), 20), image)


def test_a_row_does_not_depend_on_its_company_nor_on_the_layout_in_memory():
    image, boxes = torch.rand(9, 3, 40, 40), boxes_of(9, 40)
    together = resample_boxes(image, boxes, 32)
    alone = torch.cat([resample_boxes(image[i : i + 1], boxes[i : i + 1], 32) for i in range(9)])
    assert torch.equal(alone, together)
    last = image.contiguous(memory_format=torch.channels_last)
    assert torch.equal(resample_boxes(last, boxes, 32), together)


def test_autocast_changes_nothing():
    image, boxes = torch.rand(2, 3, 40, 40), boxes_of(2, 40)
    with torch.autocast("cpu", torch.bfloat16):
        view = resample_boxes(image, boxes, 32)
    assert torch.equal(view, resample_boxes(image, boxes, 32))


def test_pixels_outside_the_box_are_not_read():
    image = torch.rand(1, 3, 30, 30)
    box = torch.tensor([[7, 11, 12, 9]])
    other = torch.full_like(image, torch.nan)
    other[..., 7:19, 11:20] = image[..., 7:19, 11:20]
    view = resample_boxes(other, box, 24)
    assert not view.isnan().any() and torch.equal(view, resample_boxes(image, box, 24))
