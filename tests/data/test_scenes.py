"""Drawn scenes: deterministic, balanced, independent of the counts, and not separable by colour."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kd.data.datasets.scenes import dataset
from kd.store.store import Store
from tests.conftest import open_data


def many(split: int, count: int) -> np.ndarray:
    return np.stack([dataset.draw(0, split, position, 48) for position in range(count)])


def load(folder: Path, **settings):
    return open_data(dataset.load, Store(folder), **{"train_images": 36, "test_images": 12, **settings})


def test_the_same_seed_draws_the_same_bytes_and_another_seed_another_image():
    for position in range(6):
        first = dataset.draw(0, 0, position, 48)
        assert np.array_equal(first, dataset.draw(0, 0, position, 48))
        assert not np.array_equal(first, dataset.draw(1, 0, position, 48)), "the drawing seed changes nothing"
        assert not np.array_equal(first, dataset.draw(0, 1, position, 48)), "a test image is a training image"


def test_an_image_does_not_change_with_the_counts(tmp_path):
    few, more = load(tmp_path), load(tmp_path, train_images=48, test_images=24)
    assert np.array_equal(few.images[:36], more.images[:36])
    assert np.array_equal(few.images[36:48], more.images[48:60])


def test_every_prefix_is_balanced_and_so_is_every_split(tmp_path):
    scenes = load(tmp_path, val_fraction=0.34, label_noise=0)
    assert scenes.classes == ("buildings", "forest", "glacier", "mountain", "sea", "street")
    assert scenes.targets[:36].tolist() == list(range(6)) * 6
    for split, each in ((scenes.train, 4), (scenes.val, 2), (scenes.test, 2)):
        assert np.bincount(scenes.targets[split]).tolist() == [each] * 6


def test_the_split_seed_leaves_the_images_alone(tmp_path):
    first, second = load(tmp_path), load(tmp_path, seed=1)
    assert np.array_equal(first.images, second.images)
    assert not np.array_equal(first.val, second.val)
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("size", [16, 48, 128])
def test_sizes(tmp_path, size):
    scenes = load(tmp_path, image_size=size)
    assert scenes.images.shape == (48, size, size, 3) and scenes.images.dtype == np.uint8
    assert scenes.images.std((1, 2, 3)).min() > 2, "an image shows nothing"


def test_a_second_load_does_not_draw_again(tmp_path, monkeypatch):
    first = load(tmp_path)
    monkeypatch.setattr(dataset, "draw", lambda *_: pytest.fail("drawn again"))
    assert load(tmp_path).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    "setting",
    [
        *("image_size=7", "image_size=256", "image_size=48.5", "train_images=0", "train_images=6", "train_images=many"),
        *(
            "test_images=1",
            "test_images=12.5",
            "drawing_seed=-1",
            "label_noise=2",
            "label_noise=-0.1",
            "label_noise=nan",
        ),
        *("label_noise=none", "val_fraction=0", "val_fraction=1", "val_fraction=none"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name_before_anything_is_drawn(tmp_path, setting):
    name, _, value = setting.partition("=")
    with contextlib.suppress(ValueError):
        value = float(value) if "." in value or value == "nan" else int(value)
    with pytest.raises(ValueError, match=rf"data\.{name} must .*, got '?{value}'?$"):
        load(tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_colour_alone_does_not_tell_the_class():
    def statistics(images: np.ndarray) -> np.ndarray:
        return np.concatenate([images.mean((1, 2)), images.std((1, 2))], 1)

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(statistics(many(0, 900)), np.arange(900) % 6)
    accuracy = classifier.score(statistics(many(1, 600)), np.arange(600) % 6)
    assert 1 / 6 < accuracy < 0.6, f"mean and spread of the channels tell {accuracy:.0%}"


def test_a_share_of_the_training_labels_is_wrong_and_no_test_label(tmp_path):
    scenes = load(tmp_path, train_images=1200, label_noise=0.2, image_size=16)
    true = np.r_[np.arange(1200) % 6, np.arange(12) % 6]
    wrong = scenes.targets != true
    assert 0.16 < wrong[:1200].mean() < 0.24 and not wrong[1200:].any()
    assert list(scenes.notes.values()) == [wrong.sum()]
    assert not (load(tmp_path, label_noise=0).targets != np.r_[np.arange(36) % 6, np.arange(12) % 6]).any()
