"""Every option of the group ``augment`` with a method of each family: resumed to the bit, and cached as live."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kd.build import build_augment
from kd.data.loader import Loader
from kd.data.sizing import Sizing
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache
from tests.conftest import compose, options
from tests.methods.test_resume import broken_off, network

FAMILIES = {"logits": "dkd", "features": "fitnet", "relations": "rkd", "contrastive": "crd", "schemes": "dml"}


CASES = [
    # views do not depend on the method, so the whole table is for `pytest -m slow`
    pytest.param(augment, family, marks=[] if augment == "strong" or family == "logits" else pytest.mark.slow)
    for augment in options("augment")
    for family in FAMILIES
]


@pytest.mark.parametrize(("augment", "family"), CASES)
def test_a_training_that_was_killed_ends_with_the_bits_of_a_whole_one(augment, family, dataset, machine, tmp_path):
    steps = build_augment(compose(f"augment={augment}"))
    broken_off(FAMILIES[family], dataset, machine, tmp_path, augment=steps, mixup=0.3, cutmix=0.3)


@pytest.mark.parametrize("augment", options("augment"))
def test_cached_logits_are_the_live_ones(augment, dataset, machine, tmp_path):
    """Of two views of images that are stored larger than they are shown, some of them mixed."""
    larger = replace(dataset, size=Sizing(12, stored_size=16))
    loader = Loader(
        larger,
        20,
        0,
        machine.device,
        mixup=0.3,
        cutmix=0.3,
        augment=build_augment(compose(f"augment={augment}")),
        views=2,
    )
    live = LiveTeacher(network(dataset, 0.5, 9), machine)
    cache = open_cache(Store(tmp_path), {"augment": augment}, live, loader, 2, Timer())
    for epoch in (1, 2):
        for batch in loader.epoch(epoch):
            assert batch.image.shape == (40, 3, 12, 12)
            assert torch.equal(cache(batch).logits, live(batch).to_float32(frozenset()).logits)
