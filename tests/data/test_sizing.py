"""Promises of Sizing: what is stored, what is shown, and what is said of images that are not square."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from kd.augment.chain import centre_view
from kd.data.datasets.folder import load
from kd.data.loader import Loader
from kd.data.sizing import FITS, Sizing, describe_shapes, to_square
from kd.store.store import Store
from tests.conftest import open_data

CPU = torch.device("cpu")
WIDE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def wide_images(tmp_path):
    """Two classes of images of 60 x 40 pixels, and one square image."""
    for split, count in (("train", 6), ("test", 2)):
        for label in "ab":
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.roll(WIDE, 7 * number + 3 * (label == "b"), axis=1)
                pixels = pixels[:, :40] if (split, label, number) == ("test", "b", 0) else pixels
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_crop_keeps_the_centre_pad_the_whole_and_squash_the_sides():
    image = Image.fromarray(WIDE)
    crop, pad, squash = (np.asarray(to_square(image, 40, fit)).astype(int) for fit in FITS)
    assert np.array_equal(crop, WIDE[:, 10:50])
    height = round(40 * 40 / 60)
    assert not pad[: (40 - height) // 2].any() and not pad[(40 - height) // 2 + height :].any()
    inner = np.asarray(image.resize((40, height), Image.Resampling.BILINEAR))
    assert np.array_equal(pad[(40 - height) // 2 :][:height], inner)
    assert np.array_equal(squash, np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("fit", FITS)
def test_what_happened_to_images_that_are_not_square_is_said(wide_images, tmp_path, capsys, fit):
    dataset = open_data(load, Store(tmp_path / "store"), image_size=16, root=str(wide_images), fit=fit)
    said = dataset.notes["shapes"]
    assert said.startswith("15 of 16 images are not square (width / height 1.50 to 1.50): ") and fit in said
    assert f"folder: {said}" in capsys.readouterr().out


def test_nothing_is_said_of_squares():
    assert describe_shapes([(3, 3), (9, 9)], "crop") == ""


def test_what_is_stored_is_larger_than_what_is_shown(wide_images, tmp_path):
    store = Store(tmp_path / "store")
    settings = {"root": str(wide_images), "image_size": 16}
    plain = open_data(load, store, **settings)
    whole, cropped = (open_data(load, store, stored_size=32, crop_pct=share, **settings) for share in (1.0, 0.75))
    assert plain.images.shape[1] == 16 and whole.images.shape[1] == cropped.images.shape[1] == 32
    assert len({one.fingerprint for one in (plain, whole, cropped)}) == 3
    for dataset, side in ((whole, 32), (cropped, 24)):
        assert dataset.image_size == 16
        loader = Loader(dataset, 4, 0, CPU)
        (batch,) = loader.eval_batches(dataset.test)
        stored = torch.from_numpy(dataset.images[dataset.test]).permute(0, 3, 1, 2) / 255
        expected = v2.functional.resize(v2.functional.center_crop(stored, [side, side]), [16, 16], antialias=True)
        torch.testing.assert_close(batch.image, expected)
        views = next(loader.epoch(1))  # without steps a view is that of evaluation
        assert torch.equal(views.image, next(loader.eval_batches(views.index.numpy())).image)


def test_a_view_of_stored_pixels_needs_no_resampling():
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(centre_view(image, 24, 0.75), image[..., 4:28, 4:28])
    assert centre_view(image, 32) is image


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 7}, "data.image_size must be at least 8 pixels"),
        ({"image_size": 32, "stored_size": 31}, "data.stored_size must be at least 32 pixels"),
        ({"image_size": 32, "fit": "stretch"}, "data.fit must be 'crop' or 'pad' or 'squash'"),
        ({"image_size": 32, "crop_pct": 0}, "data.crop_pct must be a number in"),
    ],
)
def test_a_value_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sizing(**settings)


def test_the_size_of_a_data_set_without_sizing_is_that_of_its_images(dataset):
    assert replace(dataset, size=None).image_size == dataset.images.shape[1]
