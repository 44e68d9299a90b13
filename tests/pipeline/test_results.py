"""What ``result.json`` says of data: test images count as the same only if the same pixels are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torchvision.transforms import v2

from kd.data.sizing import Sizing
from kd.pipeline.results import _shown, split_digest


def test_the_digest_of_a_split_knows_what_is_shown(dataset):
    sizes = [Sizing(16), Sizing(8, stored_size=16), Sizing(16, crop_pct=0.5), None]
    digests = [split_digest(replace(dataset, size=size), dataset.test) for size in sizes]
    assert len(set(digests)) == 3 and digests[0] == digests[-1]
    assert split_digest(dataset, dataset.val) not in digests


def test_the_report_shows_what_evaluation_shows(dataset, machine):
    rows = dataset.test[:3]
    assert np.array_equal(_shown(dataset, rows, machine), dataset.images[rows])
    shown = _shown(replace(dataset, size=Sizing(8, stored_size=16, crop_pct=0.75)), rows, machine)
    pixels = torch.from_numpy(dataset.images[rows]).permute(0, 3, 1, 2)
    cropped = v2.functional.center_crop(pixels, [12, 12]) / 255
    expected = v2.functional.resize(cropped, [8, 8], antialias=True).permute(0, 2, 3, 1) * 255
    assert shown.dtype == np.uint8 and np.abs(shown - expected.numpy()).max() <= 0.51
