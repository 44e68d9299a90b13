"""Batches of a training, their micro-batches, the rest of an epoch, too few images, rare classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.augment.affine import Affine
from kd.data.loader import BALANCES, Loader, balanced, class_weights
from kd.runtime.user_warnings import KdWarning
from tests.views import AUGMENT

CPU = torch.device("cpu")


def images_of(loader: Loader, epoch: int) -> list[torch.Tensor]:
    return [batch.image for batch in loader.epoch(epoch)]


def test_micro_batches_make_up_the_batch(dataset):
    whole, cut = Loader(dataset, 32, 0, CPU, mixup=0.5), Loader(dataset, 32, 0, CPU, mixup=0.5, grad_accum_steps=3)
    assert cut.sizes == [11, 11, 10] and whole.sizes == [32] and cut.steps == whole.steps == 3
    micro_batches = list(cut.epoch(2))
    assert [len(micro_batch.index) for micro_batch in micro_batches] == 3 * cut.sizes
    for step, batch in enumerate(whole.epoch(2)):
        own = micro_batches[3 * step : 3 * step + 3]
        for name in ("index", "target", "image", "mixup_target", "mixup_lam"):
            assert torch.equal(torch.cat([getattr(part, name) for part in own]), getattr(batch, name))


def test_several_processes_share_each_micro_batch(dataset):
    loader = Loader(dataset, 32, 0, CPU, grad_accum_steps=2)
    parts = [list(loader.epoch(1, lambda rows, rank=rank: np.array_split(rows, 3)[rank])) for rank in range(3)]
    for micro_batch, *slices in zip(loader.epoch(1), *parts, strict=True):
        assert torch.equal(micro_batch.index, torch.cat([part.index for part in slices]))


@pytest.mark.parametrize("grad_accum_steps", [1, 2])
def test_an_epoch_resumes_at_a_step_without_making_the_views_before_it(dataset, grad_accum_steps):
    made = []

    class Counting(Affine):
        def apply(self, image, *others):
            made.append(len(image))
            return super().apply(image, *others)

    counting = Counting(flip=0.5, shift=0.1)
    loader = Loader(dataset, 16, 0, CPU, grad_accum_steps=grad_accum_steps, augment=[counting])
    whole = list(loader.epoch(3))
    made.clear()
    rest = list(loader.epoch(3, start=4))
    assert len(rest) == len(made) == 2 * grad_accum_steps
    for one, other in zip(whole[-2 * grad_accum_steps :], rest, strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.image, other.image)
    assert list(loader.epoch(3, start=6)) == []


def test_the_order_of_an_epoch_is_what_it_shows(dataset):
    loader = Loader(dataset, 20, 0, CPU)
    shown = torch.cat([batch.index for batch in loader.epoch(2)]).numpy()
    assert np.array_equal(loader.order(2), shown) and len(shown) == 80


@pytest.mark.parametrize("sampler", [None, "same_class_pairs", "half_previous"])
def test_later_epochs_repeat_the_views_of_the_first_ones(dataset, sampler):
    more = {} if sampler else {"mixup": 0.5}
    plain = Loader(dataset, 20, 0, CPU, augment=AUGMENT, sampler=sampler, **more)
    loader = plain.with_seed(*plain.stream[:-1], view_epochs=2)
    first, second, again = (images_of(loader, epoch) for epoch in (1, 2, 5))
    new = images_of(plain, 1) + images_of(plain, 2)
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], second[0])
    at = 1 if sampler == "half_previous" else 0  # its first step goes back to the epoch before: here to the second
    assert all(map(torch.equal, [*first, *second][at:], new[at:]))
    assert {batch.epoch for batch in loader.epoch(5)} == {5}
    if sampler == "half_previous":
        before = [*loader.epoch(4)][-1].index[:20]
        assert torch.equal(next(loader.epoch(5)).index[20:], before)


def test_fewer_images_than_the_batch_give_a_warning(dataset):
    with pytest.warns(KdWarning, match="train.batch_size=500 exceeds the 96 training images, so one batch holds all"):
        loader = Loader(dataset, 500, 0, CPU)
    assert loader.batch_size == 96 and [len(batch.index) for batch in loader.epoch(1)] == [96]


def test_batches_and_micro_batches_of_one_image_are_refused(dataset):
    for batch_size, steps, message in (
        (1, 1, "train.batch_size must be at least 2"),
        (8, 5, "must lie between 1 and 4, so that each micro-batch of a batch of 8 has at least 2 images"),
        (8, 0, "train.grad_accum_steps must lie between 1 and 4"),
    ):
        with pytest.raises(ValueError, match=message):
            Loader(dataset, batch_size, 0, CPU, grad_accum_steps=steps)
    with pytest.raises(ValueError, match="at least 2 images .* got 1"):
        Loader(replace(dataset, train=dataset.train[:1]), 8, 0, CPU)


def test_evaluation_batches_are_smaller_where_training_uses_micro_batches(dataset):
    for grad_accum_steps, sizes in {1: [128, 52], 4: [32] * 5 + [20]}.items():
        loader = Loader(dataset, 16, 0, CPU, grad_accum_steps=grad_accum_steps)
        assert [len(batch.index) for batch in loader.eval_batches(np.arange(180))] == sizes


@pytest.fixture
def rare(dataset):
    """Two classes keep four images each, a third one keeps one."""
    kept = {0: 4, 1: 4, 2: 1}
    rows = [np.flatnonzero(dataset.targets[dataset.train] == label)[: kept.get(label)] for label in range(6)]
    return replace(dataset, train=dataset.train[np.sort(np.concatenate(rows))])


def test_rare_classes_are_drawn_as_often_as_common_ones_and_their_images_alike(rare):
    loader = Loader(rare, 19, 3, CPU, balance="sample")
    assert loader.shown == 38
    seen = set()
    for epoch in range(1, 31):
        order = loader.order(epoch)
        counts = np.bincount(rare.targets[order], minlength=6)
        assert counts.sum() == 38 and set(counts) == {6, 7} and set(order) <= set(rare.train)
        for label in range(6):
            members = rare.train[rare.targets[rare.train] == label]
            drawn = np.array([(order == row).sum() for row in members])
            assert np.ptp(drawn) <= 1, "no image of a class is shown twice more than another"
        seen |= set(order)
        assert not np.array_equal(order, loader.order(epoch + 1)) and np.array_equal(order, loader.order(epoch))
    assert seen == set(rare.train), "of a common class other images are left out of each epoch"
    assert not np.array_equal(loader.order(1), loader.with_seed(4, 0.0).order(1))


def test_what_is_drawn_by_class_resumes_at_a_step_in_micro_batches_and_on_several_processes(rare):
    whole = list(Loader(rare, 16, 0, CPU, mixup=0.7, balance="sample").epoch(2))
    loader = Loader(rare, 16, 0, CPU, mixup=0.7, grad_accum_steps=2, balance="sample")
    for rank in range(2):
        rest = list(loader.epoch(2, lambda rows, rank=rank: np.array_split(rows, 2)[rank], start=1))
        for step, batch in enumerate(whole[1:]):
            for number in range(2):
                own, part = slice(8 * number + 4 * rank, 8 * number + 4 * rank + 4), rest[2 * step + number]
                for name in ("index", "target", "image", "mixup_target", "mixup_lam"):
                    assert torch.equal(getattr(part, name), getattr(batch, name)[own])
    views = {}
    for batch in whole:
        for index, image in zip(batch.index.tolist(), batch.image, strict=True):
            assert torch.equal(views.setdefault(index, image), image), (
                "an image has one view an epoch, so one cached logit row"
            )
    assert len(views) < sum(len(batch.index) for batch in whole)


def test_what_is_mixed_in_is_drawn_by_class_too(rare):
    loader = Loader(rare, 16, 0, CPU, mixup=1.0, balance="sample")
    partners = torch.cat([batch.mixup_target for epoch in range(1, 21) for batch in loader.epoch(epoch)])
    share = torch.bincount(partners, minlength=6) / len(partners)
    assert (share - 1 / 6).abs().max() < 0.05  # without balancing: 0.07 and 0.02 for the rare classes


def test_class_weights_have_mean_one_over_the_images_and_give_each_class_the_same(rare):
    targets = rare.targets[rare.train]
    weights = class_weights(targets, 8)
    assert weights[targets].mean() == pytest.approx(1) and (weights[6:] == 0).all()
    assert np.bincount(targets, weights[targets]) == pytest.approx(len(targets) / 6)
    for balance in BALANCES:
        batch = next(Loader(rare, 16, 0, CPU, balance=balance).epoch(1))
        given = batch.class_weight
        assert (given is None) is (balance != "weight")
        assert given is None or torch.equal(given, torch.from_numpy(weights[:6]).float())
    assert next(Loader(rare, 16, 0, CPU, balance="weight").eval_batches(rare.val)).class_weight is None


def test_drawing_by_class_of_as_many_as_wanted():
    targets = np.array([5, 5, 5, 5, 5, 5, 2])
    for count in (1, 2, 3, 50):
        rows = balanced(targets, count, np.random.default_rng(0))
        assert abs((targets[rows] == 2).sum() - count / 2) <= 0.5 and len(rows) == count
    with pytest.raises(ValueError, match="data.balance must be one of none, sample, weight, got 'sampel'"):
        Loader(None, 16, 0, CPU, balance="sampel")
