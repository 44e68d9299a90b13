"""Each view is a pure function of (seed, epoch, index)."""

from __future__ import annotations

import numpy as np
import torch

from kd.augment.affine import Affine
from kd.augment.chain import Chain
from kd.augment.flip import Flip
from kd.data.loader import Loader
from kd.runtime.rng import random_uniforms

ALL = Chain([Affine(flip=0.5, shift=0.1, zoom=0.2, rotate=10), Flip()], 12, 12)


def test_a_view_does_not_depend_on_its_company():
    image, index = torch.rand(16, 3, 12, 12), torch.arange(100, 116)
    together = ALL(image, 3, 5, index)
    order = torch.randperm(16)
    torch.testing.assert_close(ALL(image[order], 3, 5, index[order]), together[order], rtol=0, atol=1e-6)
    alone = torch.cat([ALL(image[i : i + 1], 3, 5, index[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)


def test_another_seed_epoch_or_index_is_another_view():
    image = torch.rand(1, 3, 12, 12)
    views = [ALL(image, s, e, torch.tensor([i])) for s, e, i in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1), (1, 0, 0)]]
    for a in range(len(views)):
        for b in range(a):
            assert not torch.allclose(views[a], views[b])


def test_numbers_are_uniform_and_uncorrelated():
    u = random_uniforms(7, 3, torch.arange(50_000), 4).numpy()
    assert (u >= 0).all() and (u < 1).all()
    assert abs(u.mean(0) - 0.5).max() < 0.01 and abs(u.var(0) - 1 / 12).max() < 0.01
    neighbours = np.corrcoef(
        np.concatenate([u[:-1], u[1:], random_uniforms(7, 4, torch.arange(49_999), 4).numpy()], 1).T
    )
    assert abs(neighbours - np.eye(12)).max() < 0.02


def test_off_means_untouched_and_flip_means_mirrored():
    image, index = torch.rand(64, 1, 6, 6), torch.arange(64)
    assert torch.equal(Chain([Affine()], 6, 6)(image, 0, 1, index), image)
    flipped = Chain([Affine(flip=0.5)], 6, 6)(image, 0, 1, index)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, image, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, image, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True)) and 16 < sum(mirrored) < 48


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(dataset):
    loader = Loader(dataset, 16, 0, torch.device("cpu"), augment=[Flip()])
    first, again, second = ([b.index for b in loader.epoch(e)] for e in (1, 1, 2))
    assert torch.equal(torch.cat(first), torch.cat(again)) and not torch.equal(torch.cat(first), torch.cat(second))
    seen = torch.cat(first).tolist()
    assert len(set(seen)) == len(seen) and set(seen) <= set(dataset.train.tolist())


def test_views_do_not_depend_on_the_batch_size(dataset):
    small, large = (Loader(dataset, size, 0, torch.device("cpu"), augment=[Affine(0.5, 0.1)]) for size in (8, 24))
    views = [
        {int(i): x for b in loader.epoch(2) for i, x in zip(b.index, b.image, strict=True)} for loader in (small, large)
    ]
    common = set(views[0]) & set(views[1])
    assert len(common) > 50
    for index in common:
        torch.testing.assert_close(views[0][index], views[1][index], rtol=0, atol=1e-6)
