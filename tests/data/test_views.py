"""Several views of each image in one batch: what they are, and that cached logits follow them."""

from __future__ import annotations

import pytest
import torch

from kd.augment.chain import Chain
from kd.augment.resized_crop import RandomResizedCrop
from kd.data.loader import Loader, to_unit_range
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache
from kd.train.recipe import Recipe
from tests.views import AUGMENT, SECOND

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


def test_the_second_view_may_be_made_another_way(dataset):
    """It is that of a chain of its steps, and the first view stays as it was."""
    same, other = (Loader(dataset, 16, 0, CPU, augment=AUGMENT, views=3, second=steps) for steps in (None, SECOND))
    chain = Chain(SECOND, 16, 16)
    for plain, batch in zip(same.epoch(2), other.epoch(2), strict=True):
        images, before = batch.image.chunk(3), plain.image.chunk(3)
        assert torch.equal(images[0], before[0]) and torch.equal(images[2], before[2])
        index = batch.index[:16]
        pixels = to_unit_range(torch.from_numpy(dataset.images[index.numpy()]))
        assert torch.equal(images[1], chain(pixels, 0, 2, index, view=1))
        assert not torch.equal(images[1], before[1])


def test_a_strong_view_does_not_depend_on_order_and_batch(dataset):
    seen = [{}, {}]
    for views, size in zip(seen, (16, 10), strict=True):
        for batch in Loader(dataset, size, 0, CPU, augment=AUGMENT, views=2, second=SECOND).epoch(1):
            views.update(zip(batch.index.tolist(), batch.image.chunk(2)[1], strict=False))
    both = seen[0].keys() & seen[1].keys()  # an epoch leaves out an incomplete last batch
    assert len(both) > 60 and all(torch.equal(seen[0][index], seen[1][index]) for index in both)


def test_a_mixture_of_strong_views_is_of_two_strong_views(dataset):
    mixed, plain = (Loader(dataset, 16, 0, CPU, mixup, augment=AUGMENT, views=2, second=SECOND) for mixup in (1.0, 0.0))
    chain, plan = Chain(SECOND, 16, 16), mixed.plan(1)
    for number, (batch, own) in enumerate(zip(mixed.epoch(1), plain.epoch(1), strict=True)):
        rows = slice(16 * number, 16 * (number + 1))
        other = plan.partner.index[rows]
        pixels = to_unit_range(torch.from_numpy(dataset.images[other.numpy()]))
        partner, share = chain(pixels, 0, 1, other, view=1), batch.mixup_lam[:16, None, None, None]
        expected = share * own.image[16:] + (1 - share) * partner
        torch.testing.assert_close(batch.image[16:], expected)


def test_a_stream_remembers_how_the_second_view_is_made(dataset):
    loader = Loader(dataset, 16, 0, CPU, augment=AUGMENT)
    crop = [RandomResizedCrop([0.5, 1.0])]  # as Hydra gives it: a list has no hash
    weak, strong, cropped = (loader.with_seed(0, views=2, second=steps) for steps in (None, SECOND, crop))
    assert len({weak.stream, strong.stream, cropped.stream}) == 3
    again = loader.with_seed(*strong.stream)
    assert again.stream == strong.stream == loader.with_seed(0, views=2, second=list(SECOND)).stream
    assert torch.equal(next(again.epoch(1)).image, next(strong.epoch(1)).image)


def test_cached_logits_of_each_view_are_the_live_ones(dataset, machine, tmp_path):
    torch.manual_seed(0)
    live = LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)
    loader = Loader(dataset, 20, 0, CPU, augment=AUGMENT, views=2, second=SECOND)
    cache = open_cache(Store(tmp_path), {"views": 2}, live, loader, 2, Timer())
    assert cache.logits.shape == (2, 2 * len(dataset.targets), 6)
    for epoch in (1, 2):
        for batch in loader.epoch(epoch):
            assert torch.equal(cache(batch).logits, live(batch).to_float32(frozenset()).logits)
            first, second = cache(batch).logits.chunk(2)
            assert not torch.equal(first, second)


def test_a_pasted_box_shows_the_partner_and_its_share_weighs_the_labels(dataset):
    loader = Loader(dataset, 20, 0, CPU, augment=AUGMENT, mixup=0.3, cutmix=0.6, views=2)
    plain = Loader(dataset, 20, 0, CPU, augment=AUGMENT, views=2)
    plan, pasted = loader.plan(1), 0
    for number, (batch, own) in enumerate(zip(loader.epoch(1), plain.epoch(1), strict=True)):
        for row in range(len(batch.index)):
            place = 20 * number + row % 20
            top, left, height, width = plan.box[place].tolist()
            if not height * width:
                continue
            pasted += 1
            share = 1 - height * width / 16**2
            assert abs(batch.mixup_lam[row].item() - share) < 1e-6
            outside = torch.ones(16, 16, dtype=torch.bool)
            outside[top : top + height, left : left + width] = False
            assert torch.equal(batch.image[row][:, outside], own.image[row][:, outside])
            assert outside.all() or not torch.equal(batch.image[row][:, ~outside], own.image[row][:, ~outside])
            assert batch.mixup_target[row] == plan.partner.target[place]
    assert 35 < pasted / 2 < 60, "six of ten of 80, but for boxes of no pixel"


def test_a_single_image_cannot_get_both():
    assert Recipe(1, mixup=0.9, cutmix=0.1).cutmix == 0.1
    with pytest.raises(ValueError, match=r"cutmix must be in \[0, 0.1\] with mixup=0.9, got 0.2"):
        Recipe(1, mixup=0.9, cutmix=0.2)
