"""Promises of decode_to_cache and open_cached: one decoding, stratified splits, exact statistics and fingerprint."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from kd.data.decoded_cache import decode_to_cache, open_cached
from kd.data.sizing import Sizing
from kd.data.splits import stratified_split
from kd.store.store import Store

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 3), np.uint8)
TARGETS = np.arange(30) % 3
SIZE = Sizing(9)


@pytest.fixture
def decoded(tmp_path):
    """Return ``decode(settings, ...)``, which returns the decoded folder and counts its calls."""

    def decode(settings, images=IMAGES, targets=TARGETS, train_count=24, allocated=30):
        def produce(allocate):
            decode.calls += 1
            allocate(allocated, images.shape[1:])[: len(images)] = images
            return {"targets": targets, "classes": ["a", "b", "c"], "train_count": train_count}

        return decode_to_cache(Store(tmp_path), "tiny", settings, produce)

    decode.calls = 0
    return decode


def test_equal_settings_decode_once(decoded):
    assert decoded({"x": 1}) == decoded({"x": 1}) != decoded({"x": 2})
    assert decoded.calls == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_the_training_split(decoded, channels):
    dataset = open_cached(decoded({"x": channels}, images=IMAGES[..., :channels]), SIZE, 0, 0.25)
    train = IMAGES[dataset.train][..., :channels] / 255
    repeat = 3 // channels
    np.testing.assert_allclose(dataset.mean, np.tile(train.mean((0, 1, 2)), repeat), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, np.tile(train.std((0, 1, 2)), repeat), rtol=1e-9)


def test_images_without_contrast_have_a_spread_to_divide_by(decoded):
    dataset = open_cached(decoded({}, images=np.full_like(IMAGES, 200)), SIZE, 0, 0.25)
    assert all(0 < std < 1e-5 for std in dataset.std)


def test_fewer_targets_than_allocated_rows_keep_the_first_rows(decoded):
    folder = decoded({}, images=IMAGES[:27], targets=TARGETS[:27], allocated=40)
    dataset = open_cached(folder, SIZE, 0, 0.25)
    assert (dataset.images == IMAGES[:27]).all() and dataset.test.tolist() == [24, 25, 26]
    assert {file.suffix for file in folder.iterdir()} == {".npy", ".json"}
    assert {file.stem for file in folder.glob("*.npy")} == {"images", "targets", "sums"}
    assert (folder / "images.npy").stat().st_size == 128 + 27 * 9 * 9 * 3


def test_the_fingerprint_knows_pixels_targets_and_every_split(decoded):
    changed, swapped = IMAGES.copy(), TARGETS.copy()
    changed[7, 1, 2, 0] ^= 1
    swapped[[0, 1]] = swapped[[1, 0]]
    folders = [
        decoded({"n": 0}),
        decoded({"n": 1}, images=changed),
        decoded({"n": 2}, targets=swapped),
        decoded({"n": 3}, train_count=21),
    ]
    prints = [open_cached(folder, SIZE, 0, 0.25).fingerprint for folder in folders]
    prints.append(open_cached(folders[0], SIZE, 1, 0.25).fingerprint)
    prints.append(open_cached(folders[0], SIZE, 0, 0.5).fingerprint)
    assert len(set(prints)) == 6
    assert open_cached(decoded({"n": 4}), SIZE, 0, 0.25).fingerprint == prints[0]


def test_the_split_is_stratified_disjoint_and_leaves_something_of_each_class():
    targets = np.array([0] * 100 + [1] * 10 + [2] * 2)
    rest, val = stratified_split(targets, 0.1, seed=3)
    assert np.bincount(targets[val]).tolist() == [10, 1, 1]
    assert sorted([*rest, *val]) == list(range(112))
    assert stratified_split(targets, 0.1, seed=4)[1].tolist() != val.tolist()


def test_a_class_of_one_image_is_named():
    with pytest.raises(ValueError, match=r"^data.val_fraction=0.5: .*at least 2 per class .*: ape \(1\), cow \(1\)$"):
        stratified_split(np.array([0, 1, 1, 2]), 0.5, 0, ("ape", "bee", "cow"))


DAMAGE = {
    "half the meta.json": lambda folder: os.truncate(folder / "meta.json", 100),
    "no meta.json": lambda folder: (folder / "meta.json").unlink(),
    "another meta.json": lambda folder: (folder / "meta.json").write_text('{"name": "tiny"}'),
    "half the images": lambda folder: os.truncate(folder / "images.npy", 4000),
    "empty images": lambda folder: os.truncate(folder / "images.npy", 0),
    "rubbish for images": lambda folder: (folder / "images.npy").write_bytes(b"rubbish" * 99),
    "other targets": lambda folder: np.save(folder / "targets.npy", TARGETS[:7]),
    "no sums": lambda folder: (folder / "sums.npy").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_damaged_later_is_refused_with_the_folder_to_remove(decoded, damage):
    folder = decoded({})
    DAMAGE[damage](folder)
    with pytest.raises(ValueError, match=f"data set in {re.escape(str(folder))} is damaged .* Remove that folder"):
        open_cached(folder, SIZE, 0, 0.25)


@pytest.mark.parametrize("fraction", [-0.1, 0, 1, 1.5])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_split(TARGETS, fraction, 0)
