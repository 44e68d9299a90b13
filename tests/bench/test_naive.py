"""The naive loop has torchvision's transforms of the same kinds and strengths, or refuses."""

from __future__ import annotations

import pytest

from kd.bench.naive import view
from kd.build import build_augment
from tests.conftest import compose, options

KNOWN = {
    "none": [],
    "light": ["RandomHorizontalFlip", "RandomAffine"],
    "default": ["RandomHorizontalFlip", "RandomAffine", "ColorJitter"],
    "characters": ["RandomAffine"],
    "cifar": ["RandomCrop", "RandomHorizontalFlip"],
}


@pytest.mark.parametrize("name", options("augment"))
def test_an_augmentation_has_torchvisions_transforms_or_is_refused(name):
    steps = build_augment(compose(f"augment={name}"))
    if name in KNOWN:
        made = [type(one).__name__ for one in view(steps, 32).transforms]
        assert made == [*KNOWN[name], "ToTensor"]
    else:
        with pytest.raises(ValueError, match="use augment=none, light, default, characters or cifar"):
            view(steps, 32)
