"""A bank is what the teacher would say of these very views, or it is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.clock import Clock
from kd.data.loader import Loader
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.store import Store
from kd.teacher import BankedTeacher, LiveTeacher, open_bank

CPU = torch.device("cpu")
EPOCHS = 2


@pytest.fixture(scope="module")
def live(pictures, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), pictures.mean, pictures.std), machine)


@pytest.fixture
def loader(pictures):
    return Loader(pictures, 20, 0, CPU)  # leaves 16 of 96 images out of the epoch


def obtain(place, live, loader, epochs: int = EPOCHS) -> BankedTeacher:
    return open_bank(Store(place), {"test": 1}, live, loader, epochs, Clock())


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
    "infinite": (lambda logits: logits * np.inf, "has no answer for 80 views of epoch 1"),
    "holes": (without(np.arange(120)), "has no answer for 80 views of epoch 2: it is damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_bank_that_does_not_match_is_refused_with_the_folder_to_remove(live, loader, tmp_path, name):
    bank = obtain(tmp_path, live, loader)
    before, (change, says) = np.array(bank.logits), DAMAGED[name]
    np.save(bank.folder / "logits.npy", change(before.copy()))
    with pytest.raises(ValueError, match=f"the teacher's bank {says}.* Remove .*{bank.folder.name} and run again"):
        BankedTeacher(bank.folder, CPU).check(live, loader, EPOCHS)
    shutil.rmtree(bank.folder)
    assert np.array_equal(obtain(tmp_path, live, loader).logits, before, equal_nan=True)


@pytest.mark.parametrize("size", [None, 0, 100, 1000])
def test_a_bank_that_cannot_be_read_is_refused(live, loader, tmp_path, size):
    bank = obtain(tmp_path, live, loader)
    path = bank.folder / "logits.npy"
    content = path.read_bytes()
    path.unlink()
    if size is not None:
        path.write_bytes(content[:size])
    with pytest.raises(ValueError, match=f"the teacher's bank is damaged .*Remove .*{bank.folder.name} and run again"):
        BankedTeacher(bank.folder, CPU)


def test_a_student_is_not_taught_by_a_bank_that_does_not_match(live, loader, tmp_path):
    bank = obtain(tmp_path, live, loader)
    np.save(bank.folder / "logits.npy", np.roll(bank.logits, 1, axis=-1))  # as long as it was: the store cannot tell
    with pytest.raises(ValueError, match="does not match the teacher"):
        obtain(tmp_path, live, loader)


def test_a_bank_of_another_order_is_refused(live, loader, pictures, tmp_path):
    bank = obtain(tmp_path, live, loader)
    with pytest.raises(ValueError, match="no answer for .* views of epoch 1: .* for another order"):
        bank.check(live, Loader(pictures, 20, 1, CPU), EPOCHS)  # leaves out other images
    whole = obtain(tmp_path / "whole", live, Loader(pictures, 16, 0, CPU))
    with pytest.raises(ValueError, match="does not match the teacher"):
        whole.check(live, Loader(pictures, 16, 1, CPU), EPOCHS)  # the same images, other views
    with pytest.raises(ValueError, match="no answer for some views"):
        for batch in Loader(pictures, 20, 1, CPU).epoch(1):
            bank(batch)


def test_a_bank_of_what_is_drawn_by_class_answers_every_view(live, pictures, tmp_path):
    rare = np.flatnonzero(pictures.targets[pictures.train] == 0)[2:]
    few = replace(pictures, train=np.delete(pictures.train, rare))
    loader = Loader(few, 20, 0, CPU, balance="sample")
    bank = obtain(tmp_path, live, loader)
    for epoch in (1, EPOCHS):
        for batch in loader.epoch(epoch):
            torch.testing.assert_close(bank(batch).logits, live(batch).logits)  # drawn twice, in two batches: rounding
    with pytest.raises(ValueError, match="no answer for .* views of epoch 1"):
        bank.check(live, Loader(few, 20, 0, CPU), EPOCHS)
