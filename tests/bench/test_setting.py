"""The images and the settings that all jobs have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.bench.naive import folders
from kd.bench.setting import Setting, resized, set_up, subset


def test_a_setting_survives_json():
    setting = Setting("somewhere", ("data=intel", "kd.alpha=0.5"), images=7, threads=2)
    assert Setting.from_json(setting.to_json()) == setting


def test_the_image_files_hold_the_same_pixels(setup):
    train, val = folders(setup)
    dataset = setup.dataset
    assert len(train) == 24 and len(val) == len(dataset.val) and len(train.classes) == len(dataset.classes)
    by_class = sorted(range(24), key=lambda row: (dataset.targets[dataset.train[row]], row))
    for number in (0, 11, 23):
        position = dataset.train[by_class[number]]
        image, target = train.loader(train.samples[number][0]), train.samples[number][1]
        assert np.array_equal(np.asarray(image), dataset.images[position]) and target == dataset.targets[position]
    image, _ = val[0]
    assert image.dtype == torch.float32 and image.shape == (3, 32, 32)


def test_an_epoch_has_as_many_images_as_asked(setup):
    few, many = subset(setup.dataset, 5).train, subset(setup.dataset, 100).train
    assert list(few) == list(setup.dataset.train[:5])
    assert len(many) == 100 and set(many) == set(setup.dataset.train)


def test_images_can_be_larger_than_they_were_drawn(setup):
    larger = resized(setup.dataset, 48)
    assert larger.images.shape[1:] == (48, 48, 3) and larger.image_size == 48
    assert resized(setup.dataset, 32) is setup.dataset


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kd=dkd", "the benchmark compares programs by kd=hinton, got kd=dkd"),
        ("kd.temprature=3", "temperature"),
        ("student=tiny_cn", "tiny_cnn"),
        ("teacher.ensemble=[resnet18,tiny_cnn]", "one teacher"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path, override, message):
    own = ("data.image_size=32", override)
    with pytest.raises(ValueError, match=message):
        set_up(Setting(str(tmp_path), own, images=24, batch_size=8, image_size=32))
