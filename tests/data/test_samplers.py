"""What samplers put beside the images of a batch: which images, in which rows, the same however a batch is divided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.data.loader import Loader
from kd.data.samplers import BLOCKS, check_sampler, half_previous, same_class_pairs
from kd.interfaces import LOGITS_ONLY, ROWS, Batch
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache
from kd.train.objective import Objective
from tests.views import AUGMENT

CPU = torch.device("cpu")


class Term(torch.nn.Module):
    needs = frozenset()

    def __init__(self, **asked):
        super().__init__()
        vars(self).update(asked)

    def setup(self, student, teacher):
        """Nothing to build."""


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_pair_is_two_images_of_one_class_and_every_other_image_is_as_likely():
    targets, train = np.array([0, 1, 0, 1, 0, 2, 0, 1]), np.array([6, 0, 2, 4, 1, 3])
    counts = np.zeros((8, 8), int)
    for seed in range(900):
        order = generator(seed).permutation(train)
        other = same_class_pairs(order, train, targets, generator(seed))
        np.add.at(counts, (order, other), 1)
    assert not counts.diagonal().any() and not counts[:, [5, 7]].any(), "itself, or outside the training images"
    assert (targets[np.nonzero(counts)[0]] == targets[np.nonzero(counts)[1]]).all()
    assert counts[1, 3] == counts[3, 1] == 900
    four = counts[np.ix_([0, 2, 4, 6], [0, 2, 4, 6])]
    assert (four.sum(1) == 900).all() and abs(four[~np.eye(4, dtype=bool)] - 300).max() < 60


def test_an_image_without_another_of_its_class_or_without_a_label_comes_with_itself():
    targets, train = np.array([3, 0, 0, -1, -1, 5]), np.array([0, 1, 2, 3, 4, 5])
    other = same_class_pairs(np.array([4, 0, 1, 2, 5, 3, 1]), train, targets, generator())
    assert other.tolist() == [4, 0, 2, 1, 5, 3, 2]
    assert same_class_pairs(train[3:5], train[3:5], targets, generator()).tolist() == [3, 4]


def test_the_previous_images_are_those_of_the_step_before():
    order, before = np.arange(6), np.array([9, 8])
    assert half_previous(order, 2, before).tolist() == [9, 8, 0, 1, 2, 3]
    assert half_previous(order, 2, None).tolist() == [0, 1, 0, 1, 2, 3]


def one_epoch(dataset, sampler, epoch=2, size=20, **more) -> list[Batch]:
    return list(Loader(dataset, size, 0, CPU, augment=AUGMENT, sampler=sampler, **more).epoch(epoch))


@pytest.mark.parametrize("sampler", BLOCKS)
def test_the_first_block_is_the_batch_of_a_loader_without_a_sampler(dataset, sampler):
    for batch, plain in zip(one_epoch(dataset, sampler), one_epoch(dataset, None), strict=True):
        count = len(plain.index)
        assert batch.views == BLOCKS[sampler] and len(batch.index) == batch.views * count
        assert all(torch.equal(getattr(batch, name)[:count], getattr(plain, name)) for name in ROWS[:3])
        learners = batch.learners
        assert learners.views == 1 and len(learners.index) == (2 * count if sampler == "half_previous" else count)
        assert all(torch.equal(getattr(learners, n), getattr(batch, n)[: len(learners.index)]) for n in ROWS[:3])
        assert plain.learners is plain


def test_pairs_are_other_images_in_their_second_view(dataset):
    two_views = Loader(dataset, 20, 0, CPU, augment=AUGMENT, views=2)
    second = {int(i): x for b in two_views.epoch(2) for i, x in zip(b.index[20:], b.image[20:], strict=True)}
    compared = 0
    for batch in one_epoch(dataset, "same_class_pairs"):
        own, other = batch.index.chunk(2)
        assert not (own == other).any() and torch.equal(*batch.target.chunk(2))
        for index, image in zip(other.tolist(), batch.image[20:], strict=True):
            if index in second:
                compared += 1
                assert torch.equal(image, second[index])
    assert compared > 40


def test_previous_images_are_those_of_the_last_step_also_of_the_last_epoch(dataset):
    steps = one_epoch(dataset, "half_previous", 1) + one_epoch(dataset, "half_previous", 2)
    for before, batch in zip(steps, steps[1:], strict=False):
        assert torch.equal(batch.index[20:], before.index[:20]) and torch.equal(batch.target[20:], before.target[:20])
        assert not torch.equal(batch.image[20:], before.image[:20]), "another view"


def test_a_mixture_is_the_same_in_the_next_step(dataset):
    steps = one_epoch(dataset, "half_previous", mixup=0.5, cutmix=0.2)
    assert torch.equal(*steps[0].index.chunk(2)), "of the epoch before they would be other mixtures"
    for before, batch in zip(steps, steps[1:], strict=False):
        for name in ("index", "mixup_target", "mixup_lam"):
            assert torch.equal(getattr(batch, name)[20:], getattr(before, name)[:20]), name
        alike = batch.mixup_lam[20:] == 1
        assert alike.any() and not alike.all()


def test_rotations_turn_the_view_of_a_batch(dataset):
    for batch in one_epoch(dataset, "rotations", mixup=0.5):
        for turns, part in enumerate(batch.image.chunk(4)):
            assert torch.equal(part, torch.rot90(batch.image[:20], turns, (2, 3)))
        for name in ROWS[1:]:
            assert all(torch.equal(part, getattr(batch, name)[:20]) for part in getattr(batch, name).chunk(4)), name


@pytest.mark.parametrize("sampler", BLOCKS)
def test_micro_batches_and_processes_keep_what_belongs_together(dataset, sampler):
    whole = one_epoch(dataset, sampler)
    for steps, size in ((3, 1), (1, 2), (2, 3)):
        loader = Loader(dataset, 20, 0, CPU, grad_accum_steps=steps, augment=AUGMENT, sampler=sampler)
        parts = [list(loader.epoch(2, lambda rows, r=r, size=size: np.array_split(rows, size)[r])) for r in range(size)]
        for number, batch in enumerate(whole):
            blocks = []
            for micro_batch in range(steps):
                for process in parts:
                    own = process[number * steps + micro_batch]
                    assert own.views == batch.views
                    assert own.first_row == sum(len(one.index.chunk(own.views)[0]) for one in blocks)
                    blocks.append(own)
            for name in ROWS[:3]:
                views = zip(*(getattr(one, name).chunk(batch.views) for one in blocks), strict=True)
                joined = torch.cat([torch.cat(view) for view in views])
                assert torch.equal(joined, getattr(batch, name)), name


@pytest.mark.parametrize("sampler", BLOCKS)
def test_an_epoch_resumes_at_a_step(dataset, sampler):
    loader = Loader(dataset, 16, 3, CPU, augment=AUGMENT, sampler=sampler, balance="sample")
    for whole, part in zip(list(loader.epoch(3))[2:], loader.epoch(3, start=2), strict=True):
        assert all(torch.equal(getattr(whole, name), getattr(part, name)) for name in ROWS[:3])


@pytest.mark.parametrize("sampler", BLOCKS)
def test_cached_logits_are_the_live_ones(dataset, machine, tmp_path, sampler):
    torch.manual_seed(0)
    live = LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine, LOGITS_ONLY)
    loader = Loader(dataset, 20, 0, CPU, augment=AUGMENT, sampler=sampler, mixup=0.0 if "pairs" in sampler else 0.4)
    cache = open_cache(Store(tmp_path), {"sampler": sampler}, live, loader, 2, Timer())
    for epoch in (1, 2):
        for batch in loader.epoch(epoch):
            torch.testing.assert_close(cache(batch).logits, live(batch).to_float32(frozenset()).logits)


def test_a_single_batch_and_few_images(dataset):
    few = replace(dataset, train=dataset.train[:7])
    for sampler in BLOCKS:
        loader = Loader(few, 7, 0, CPU, sampler=sampler)
        (batch,) = loader.epoch(1)
        assert len(batch.index) == 7 * BLOCKS[sampler] and loader.stream == loader.with_seed(*loader.stream).stream
    assert loader.with_seed(0).sampler is None and loader.with_seed(0).views == 1


def test_what_does_not_go_together_is_refused(dataset):
    with pytest.raises(ValueError, match="sampler must be one of same_class_pairs, half_previous, rotations"):
        check_sampler("pairs")
    with pytest.raises(
        ValueError, match=r"no single class: set train.student.mixup=0 and train.student.cutmix=0, got 0"
    ):
        Loader(dataset, 20, 0, CPU).with_seed(0, 0.0, 0.3, sampler="same_class_pairs")
    check_sampler(None, 0.5)
    hard, pairs, rotated, two = (
        Term(**asked) for asked in ({}, {"sampler": "same_class_pairs"}, {"sampler": "rotations"}, {"views": 2})
    )
    with pytest.raises(ValueError, match=r"several samplers \(a for same_class_pairs, b for rotations\)"):
        Objective({"a": pairs, "b": rotated}, {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match=r"several views of each image \(b\) and for rotations beside them \(a\)"):
        Objective({"a": rotated, "b": two}, {"a": 1.0, "b": 1.0})
    unused = Objective({"a": pairs, "b": rotated, "c": hard}, {"a": 0.0, "b": 1.0, "c": 1.0})
    assert unused.sampler == "rotations" and unused.views == 4, "a term of weight 0 asks for nothing"
