"""The second view of methods that compare two: how ``second_augment`` makes it."""

from __future__ import annotations

import pytest

from kd.augment.randaugment import RandAugment
from kd.build import build_augment, build_second_augment
from tests.conftest import compose, options


@pytest.mark.parametrize("name", options("augment"))
def test_every_option_makes_a_second_view_too(name):
    """By its own settings, which are not those of ``augment``."""
    cfg = compose("augment=none", f"augment@second_augment={name}")
    assert build_augment(cfg) == [] and build_second_augment(cfg) == build_augment(compose(f"augment={name}"))


def test_its_settings_are_changed_under_its_own_name():
    cfg = compose("augment=cifar", "augment.flip=0", "augment@second_augment=cifar", "second_augment.padding=2")
    (crop, flip), (second_crop, second_flip) = build_augment(cfg), build_second_augment(cfg)
    assert (crop.padding, flip.probability) == (4, 0) and (second_crop.padding, second_flip.probability) == (2, 0.5)


def test_by_default_it_is_the_first_ones_augmentation_and_then_randaugment():
    """With augment=cifar as published: crop, flip, RandAugment(2, 10). What must not be mirrored is not."""
    for name in ("cifar", "characters", "resized_crop"):
        cfg = compose(f"augment={name}")
        assert build_second_augment(cfg) == [*build_augment(cfg), RandAugment(2, 10)]
    assert build_second_augment(compose("second_augment.after_augment=false")) == [RandAugment(2, 10)]


def test_without_one_both_views_are_made_by_augment():
    cfg = compose("~augment@second_augment")
    assert build_second_augment(cfg) == build_augment(cfg) != []
