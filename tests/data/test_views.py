"""Several views of each image in one batch: what they are, and that cached logits follow them."""

from __future__ import annotations

import torch

from kd.data.loader import Loader
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache
from tests.views import AUGMENT

CPU = torch.device("cpu")


def test_the_first_view_is_the_only_one_of_a_loader_with_one(dataset):
    one, two = (Loader(dataset, 16, 0, CPU, 0.5, 2, augment=AUGMENT, views=views) for views in (1, 2))
    for single, double in zip(one.epoch(3), two.epoch(3), strict=True):
        first, second = double.image.chunk(2)
        assert torch.equal(first, single.image) and not torch.equal(second, first)
        for name in ("target", "index", "mixup_target", "mixup_lam"):
            assert all(torch.equal(part, getattr(single, name)) for part in getattr(double, name).chunk(2)), name
        assert (single.views, double.views) == (1, 2)


def test_a_view_does_not_depend_on_how_many_there_are(dataset):
    two, three = (Loader(dataset, 16, 0, CPU, augment=AUGMENT, views=views) for views in (2, 3))
    for double, triple in zip(two.epoch(1), three.epoch(1), strict=True):
        assert torch.equal(double.image, triple.image[: len(double.image)])


def test_cached_logits_of_each_view_are_the_live_ones(dataset, machine, tmp_path):
    torch.manual_seed(0)
    live = LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)
    loader = Loader(dataset, 20, 0, CPU, augment=AUGMENT, views=2)
    cache = open_cache(Store(tmp_path), {"views": 2}, live, loader, 2, Timer())
    assert cache.logits.shape == (2, 2 * len(dataset.targets), 6)
    for epoch in (1, 2):
        for batch in loader.epoch(epoch):
            assert torch.equal(cache(batch).logits, live(batch).to_float32(frozenset()).logits)
            first, second = cache(batch).logits.chunk(2)
            assert not torch.equal(first, second)
