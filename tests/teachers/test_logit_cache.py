"""A logit cache holds the teacher's logits of exactly these views, or it is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.data.loader import Loader
from kd.models.normalized import Normalized
from kd.models.reclassed import PickClasses
from kd.models.resized import Resize
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import CachedTeacher, open_cache
from tests.views import AUGMENT

CPU = torch.device("cpu")
EPOCHS = 2


@pytest.fixture(scope="module")
def live(dataset, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)


@pytest.fixture
def loader(dataset):
    return Loader(dataset, 20, 0, CPU, augment=AUGMENT)  # leaves 16 of 96 images out of each epoch


def cached(folder, live, loader, epochs: int = EPOCHS) -> CachedTeacher:
    return open_cache(Store(folder), {"test": 1}, live, loader, epochs, Timer())


def without(positions: np.ndarray):
    def changed(logits: np.ndarray) -> np.ndarray:
        logits[1, positions] = np.nan
        return logits

    return changed


DAMAGED = {
    "another teacher": (lambda logits: np.roll(logits, 1, axis=-1), "does not match the teacher: logits differ by"),
    "fewer epochs": (lambda logits: logits[:1], r"holds float32 \[1, .* and should hold float32 \[2, 180, 6\]"),
    "more images": (lambda logits: np.repeat(logits, 2, axis=1), r"holds float32 \[2, 360, 6\] and should"),
    "other classes": (lambda logits: logits[..., :5], r"holds float32 \[2, 180, 5\] and should"),
    "half precision": (lambda logits: logits.astype(np.float16), "holds float16 .* and should hold float32"),
    "infinite": (lambda logits: logits * np.inf, "has no logits for 80 views of epoch 1"),
    "holes": (without(np.arange(120)), "has no logits for 80 views of epoch 2: it is damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_logit_cache_that_does_not_match_is_refused_with_the_folder_to_delete(live, loader, tmp_path, name):
    cache = cached(tmp_path, live, loader)
    before, (change, says) = np.array(cache.logits), DAMAGED[name]
    np.save(cache.folder / "logits.npy", change(before.copy()))
    with pytest.raises(ValueError, match=f"the teacher's logit cache {says}.* Delete .*{cache.folder.name} and rerun"):
        CachedTeacher(cache.folder, CPU, 180).check(live, loader, EPOCHS)
    shutil.rmtree(cache.folder)
    assert np.array_equal(cached(tmp_path, live, loader).logits, before, equal_nan=True)


@pytest.mark.parametrize("size", [None, 0, 100, 1000])
def test_a_logit_cache_that_cannot_be_read_is_refused(live, loader, tmp_path, size):
    cache = cached(tmp_path, live, loader)
    path = cache.folder / "logits.npy"
    content = path.read_bytes()
    path.unlink()
    if size is not None:
        path.write_bytes(content[:size])
    with pytest.raises(
        ValueError, match=f"the teacher's logit cache is damaged .*Delete .*{cache.folder.name} and rerun"
    ):
        CachedTeacher(cache.folder, CPU, 180)


def test_a_student_is_not_taught_by_a_logit_cache_that_does_not_match(live, loader, tmp_path):
    cache = cached(tmp_path, live, loader)
    np.save(cache.folder / "logits.npy", np.roll(cache.logits, 1, axis=-1))  # the same size: the store cannot notice
    with pytest.raises(ValueError, match="does not match the teacher"):
        cached(tmp_path, live, loader)


def test_a_logit_cache_of_another_order_is_refused(live, loader, dataset, tmp_path):
    cache = cached(tmp_path, live, loader)
    with pytest.raises(ValueError, match="no logits for .* views of epoch 1: .* for another order"):
        cache.check(live, Loader(dataset, 20, 1, CPU, augment=AUGMENT), EPOCHS)  # leaves out other images
    whole = cached(tmp_path / "whole", live, Loader(dataset, 16, 0, CPU, augment=AUGMENT))
    with pytest.raises(ValueError, match="does not match the teacher"):
        whole.check(live, Loader(dataset, 16, 1, CPU, augment=AUGMENT), EPOCHS)  # the same images, other views
    with pytest.raises(ValueError, match="no logits for some views"):
        for batch in Loader(dataset, 20, 1, CPU, augment=AUGMENT).epoch(1):
            cache(batch)


def test_a_logit_cache_of_views_that_are_repeated_holds_each_once(live, dataset, tmp_path):
    loader = Loader(dataset, 20, 0, CPU, augment=AUGMENT, mixup=0.5, view_epochs=2)
    cache = cached(tmp_path, live, loader, epochs=5)
    assert len(cache.logits) == 2
    for epoch in range(1, 6):
        for batch in loader.epoch(epoch):
            assert torch.equal(cache(batch).logits, live(batch).to_float32(frozenset()).logits)
    assert np.array_equal(cached(tmp_path / "two", live, loader, 2).logits, cache.logits, equal_nan=True)


def test_a_logit_cache_of_images_drawn_by_class_has_every_view(live, dataset, tmp_path):
    rare = np.flatnonzero(dataset.targets[dataset.train] == 0)[2:]
    few = replace(dataset, train=np.delete(dataset.train, rare))
    loader = Loader(few, 20, 0, CPU, balance="sample", augment=AUGMENT)
    cache = cached(tmp_path, live, loader)
    for epoch in (1, EPOCHS):
        for batch in loader.epoch(epoch):
            torch.testing.assert_close(cache(batch).logits, live(batch).logits)  # drawn twice, in two batches: rounding
    with pytest.raises(ValueError, match="no logits for .* views of epoch 1"):
        cache.check(live, Loader(few, 20, 0, CPU, augment=AUGMENT), EPOCHS)


def test_a_teacher_of_its_own_size_and_classes_is_cached_to_the_bit(dataset, machine, loader, tmp_path):
    torch.manual_seed(9)
    own = Normalized(TinyCNN(9, 24, width=0.5), dataset.mean, dataset.std, Resize(24), PickClasses([8, 1, 5, 0, 3, 2]))
    live = LiveTeacher(own, machine)
    cache = cached(tmp_path, live, loader)
    for epoch in range(1, EPOCHS + 1):
        for batch in loader.epoch(epoch):
            logits = live(batch).logits
            assert logits.shape[-1] == 6 and torch.equal(cache(batch).logits, logits)
