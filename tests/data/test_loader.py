"""What a training walks: whole batches, their pieces, the rest of an epoch, and what there is too little of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.data.loader import Loader
from kd.interfaces import Advice

CPU = torch.device("cpu")


def test_pieces_are_the_batch_cut(pictures):
    whole, cut = Loader(pictures, 32, 0, CPU, mixup=0.5), Loader(pictures, 32, 0, CPU, mixup=0.5, pieces=3)
    assert cut.sizes == [11, 11, 10] and whole.sizes == [32] and cut.steps == whole.steps == 3
    pieces = list(cut.epoch(2))
    assert [len(piece.index) for piece in pieces] == 3 * cut.sizes
    for step, batch in enumerate(whole.epoch(2)):
        own = pieces[3 * step : 3 * step + 3]
        for name in ("index", "target", "image", "other", "share"):
            assert torch.equal(torch.cat([getattr(piece, name) for piece in own]), getattr(batch, name))


def test_several_processes_share_each_piece(pictures):
    loader = Loader(pictures, 32, 0, CPU, pieces=2)
    parts = [list(loader.epoch(1, lambda piece, rank=rank: np.array_split(piece, 3)[rank])) for rank in range(3)]
    for piece, *slices in zip(loader.epoch(1), *parts, strict=True):
        assert torch.equal(piece.index, torch.cat([part.index for part in slices]))


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_epoch_goes_on_at_a_step_without_making_the_views_before_it(pictures, pieces):
    made = []

    def augment(image, seed, epoch, index):
        made.append(len(index))
        return pictures.augment(image, seed, epoch, index)

    loader = Loader(replace(pictures, augment=augment), 16, 0, CPU, pieces=pieces)
    whole = list(loader.epoch(3))
    made.clear()
    rest = list(loader.epoch(3, start=4))
    assert len(rest) == len(made) == 2 * pieces
    for one, other in zip(whole[-2 * pieces :], rest, strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.image, other.image)
    assert list(loader.epoch(3, start=6)) == []


def test_the_order_of_an_epoch_is_what_it_shows(pictures):
    loader = Loader(pictures, 20, 0, CPU)
    shown = torch.cat([batch.index for batch in loader.epoch(2)]).numpy()
    assert np.array_equal(loader.order(2), shown) and len(shown) == 80


def test_fewer_images_than_the_batch_are_told(pictures):
    with pytest.warns(Advice, match="train.batch_size=500: there are 96 training images, so that many a batch"):
        loader = Loader(pictures, 500, 0, CPU)
    assert loader.batch_size == 96 and [len(batch.index) for batch in loader.epoch(1)] == [96]


def test_batches_and_pieces_without_company_are_refused(pictures):
    for wrong, says in {
        (1, 1): "train.batch_size must be 2 or more",
        (8, 5): "train.pieces must lie between 1 and 4, so that each piece of a batch of 8 has 2 images or more",
        (8, 0): "train.pieces must lie between 1 and 4",
    }.items():
        with pytest.raises(ValueError, match=says):
            Loader(pictures, wrong[0], 0, CPU, pieces=wrong[1])
    with pytest.raises(ValueError, match="2 images or more .* and there are 1"):
        Loader(replace(pictures, train=pictures.train[:1]), 8, 0, CPU)


def test_what_is_only_looked_at_comes_in_smaller_lots_where_batches_come_in_pieces(pictures):
    for pieces, sizes in {1: [128, 52], 4: [32] * 5 + [20]}.items():
        loader = Loader(pictures, 16, 0, CPU, pieces=pieces)
        assert [len(batch.index) for batch in loader.plain(np.arange(180))] == sizes
