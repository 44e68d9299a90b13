"""A pass of several students leaves each as its own training would: to the bit in turn, to rounding in a stack."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kd.data.loader import Loader
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.teachers.live import LiveTeacher
from kd.train import resume
from kd.train.checkpoint import CheckpointFolder
from kd.train.finite import NonFiniteLoss
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.stack import Stack
from kd.train.together import fit_together
from kd.train.training import Training
from tests.views import AUGMENT

CPU = torch.device("cpu")
CELLS = [  # temperature, alpha, seed, recipe
    (2.0, 0.1, 0, {}),
    (4.0, 0.9, 0, {"lr": 0.02}),
    (8.5, 0.5, 1, {"weight_decay": 0.3}),
]
TIMES = ("stage", "seconds", "images_per_s")


@pytest.fixture(scope="module")
def teacher(dataset, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)


class Cell:
    """A student with what it takes to train it, alone or with others."""

    def __init__(self, dataset, machine, cell, *, dropout=0.0, epochs=2, double=False, parts=1, folder=None, **recipe):
        temperature, alpha, seed, own = cell
        torch.manual_seed(seed)
        network = Normalized(TinyCNN(6, 16, width=0.25, dropout=dropout), dataset.mean, dataset.std)
        self.network, self.rows = network.double() if double else network, []
        terms = {"hard": CrossEntropy(), "soft": Hinton(temperature)}
        objective = Objective(terms, {"hard": 1 - alpha, "soft": alpha})
        loader = Loader(dataset, 16, seed, CPU, grad_accum_steps=parts, augment=AUGMENT)
        self.about = (self.network, objective, loader, Recipe(epochs, **{"lr": 0.01, **recipe, **own}), machine)
        checkpoints = folder and CheckpointFolder(folder / f"{temperature}-{alpha}-{seed}")
        self.how = {"stage": "student", "log": self.rows.append, "checkpoints": checkpoints}

    def alone(self, teacher):
        return fit(*self.about, teacher=teacher, **self.how)

    def training(self, teacher):
        return Training(*self.about, teacher=teacher, together=True, **self.how)


def make(dataset, machine, cells=CELLS, **how):
    return [Cell(dataset, machine, cell, **how) for cell in cells]


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights(cells):
    return [{name: value.clone() for name, value in cell.network.state_dict().items()} for cell in cells]


def same(one, other) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def test_in_turn_every_student_ends_with_the_bits_of_its_own_training(dataset, machine, teacher):
    how = {"dropout": 0.2, "ema": 0.9, "clip_norm": 1.0}
    alone, together = make(dataset, machine, **how), make(dataset, machine, **how)
    expected = [cell.alone(teacher) for cell in alone]
    lines = []
    found = fit_together([cell.training(teacher) for cell in together], say=lines.append)
    assert same(weights(alone), weights(together))
    for one, other, a, b in zip(alone, together, expected, found, strict=True):
        assert timeless(one.rows) == timeless(other.rows)
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    assert len(lines) == 1 and "in turn (vmap" in lines[0]  # dropout draws random numbers


@pytest.mark.parametrize("parts", [1, 3])
def test_in_a_stack_every_student_ends_with_the_numbers_of_its_own_training(dataset, machine, teacher, parts):
    how = {"double": True, "ema": 0.9, "clip_norm": 1.0, "optimizer": "sgd", "parts": parts}
    alone, together = make(dataset, machine, **how), make(dataset, machine, **how)
    expected = [cell.alone(teacher) for cell in alone]
    lines = []
    found = fit_together([cell.training(teacher) for cell in together], always=True, say=lines.append)
    assert lines == ["one pass: 3 students in stacks of 3, not timed"]
    for one, other, a, b in zip(alone, together, expected, found, strict=True):
        for name, value in one.network.state_dict().items():
            torch.testing.assert_close(other.network.state_dict()[name], value, rtol=1e-10, atol=1e-12)
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
        for row, right in zip(timeless(other.rows), timeless(one.rows), strict=True):
            shares = row.pop("gradients", None), right.pop("gradients", None)  # nested; see test_meter.py
            assert (shares[0] is None) == (shares[1] is None)
            assert row == pytest.approx(right, rel=1e-6)
        assert all(p.untyped_storage().nbytes() == p.nbytes for p in other.network.state_dict().values())


def test_students_of_one_seed_ask_the_teacher_once(dataset, machine, teacher):
    asked = []

    def counting(batch):
        asked.append(len(batch.image))
        return teacher(batch)

    cells = make(dataset, machine, [(float(t), 0.5, 0, {}) for t in range(1, 5)], epochs=1)
    trainings = [cell.training(counting) for cell in cells]
    asked.clear()
    fit_together(trainings, students=1)
    assert asked.count(16) <= trainings[0].loader.steps + 2  # and two to time it


class Killed:
    """A teacher that interrupts its training, as Ctrl-C would between two of its statements."""

    def __init__(self, teacher, after):
        self.teacher, self.left = teacher, after

    def __call__(self, batch):
        self.left -= len(batch.image) == 16
        if self.left < 0:
            raise KeyboardInterrupt
        return self.teacher(batch)


@pytest.mark.parametrize("students", [1, 3])
def test_a_killed_pass_resumes_as_a_pass_or_cell_by_cell(dataset, machine, teacher, tmp_path, students, monkeypatch):
    monkeypatch.setattr(resume, "WRITES_APART", 0)  # a checkpoint at the end of each epoch, however short
    how = {"epochs": 3, "double": True}
    whole = make(dataset, machine, **how)
    fit_together([cell.training(teacher) for cell in whole], students=students, always=True, say=lambda line: None)
    for place in ("pass", "alone"):
        folder = tmp_path / place
        killed = make(dataset, machine, folder=folder, **how)
        trap = Killed(teacher, 25)  # 6 steps an epoch, 2 seeds: in the third epoch
        with pytest.raises(KeyboardInterrupt):
            trainings = [cell.training(trap) for cell in killed]
            fit_together(trainings, students=students, always=True, say=lambda line: None)
        sizes = [path.stat().st_size for path in folder.rglob("*.pt")]
        assert len(sizes) == 6 and max(sizes) < 1.2 * min(sizes)  # of one student each, not of the stack
        again = make(dataset, machine, folder=folder, **how)
        if place == "pass":
            trainings = [cell.training(teacher) for cell in again]
            assert {training.position for training in trainings} == {(3, 0)}
            fit_together(trainings, students=students, always=True, say=lambda line: None)
        else:
            for cell in again:
                cell.alone(teacher)
        for cell, right in zip(again, whole, strict=True):
            for name, value in right.network.state_dict().items():
                other = cell.network.state_dict()[name]
                assert torch.equal(other, value) if students == 1 else torch.allclose(other, value, 1e-6, 1e-8), name
            assert [row["epoch"] for row in cell.rows] == [1, 2, 3]


def test_a_student_behind_the_others_catches_up(dataset, machine, teacher, tmp_path, monkeypatch):
    """A kill while the checkpoints of an epoch are being written leaves some students an epoch behind."""
    monkeypatch.setattr(resume, "WRITES_APART", 0)
    how = {"epochs": 3, "dropout": 0.2}
    whole = make(dataset, machine, **how)
    for cell in whole:
        cell.alone(teacher)
    killed = make(dataset, machine, folder=tmp_path, **how)
    with pytest.raises(KeyboardInterrupt):
        trap = Killed(teacher, 25)
        fit_together([cell.training(trap) for cell in killed], students=1, say=lambda line: None)
    newest = sorted((tmp_path / "4.0-0.9-0").glob("*.pt"))[-1]
    newest.unlink()
    again = make(dataset, machine, folder=tmp_path, **how)
    trainings = [cell.training(teacher) for cell in again]
    assert [training.position for training in trainings] == [(3, 0), (2, 0), (3, 0)]
    fit_together(trainings, say=lambda line: None)
    assert same(weights(again), weights(whole))


class Spoilt(nn.Module):
    """A term that is not a number from some step on, for one student."""

    needs = frozenset()

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def setup(self, student, teacher):
        pass

    def forward(self, student, teacher, batch):
        return (student.logits.square().mean() * self.factor) ** 3


@pytest.mark.parametrize("students", [1, 3])
def test_a_student_that_diverges_ends_and_the_others_do_not_notice(dataset, machine, students):
    def trainings(factors):
        cells = make(dataset, machine, CELLS[: len(factors)], double=True)
        for cell, factor in zip(cells, factors, strict=True):
            network, _, *rest = cell.about
            cell.about = (network, Objective({"spoilt": Spoilt(factor)}, {"spoilt": 1.0}), *rest)
        return cells, [cell.training(None) for cell in cells]

    good, others = trainings((1e-3, 2e-3))
    fit_together(others, students=students, always=True, say=lambda line: None)
    cells, all_three = trainings((1e-3, 2e-3, 1e200))
    results = fit_together(all_three, students=students, always=True, say=lambda line: None)
    assert isinstance(results[2], NonFiniteLoss) and "spoilt is not finite at epoch 1, step 1" in str(results[2])
    assert all(isinstance(result, dict) for result in results[:2])
    for cell, right in zip(cells, good, strict=False):
        for name, value in right.network.state_dict().items():
            torch.testing.assert_close(cell.network.state_dict()[name], value, rtol=1e-9, atol=1e-9)


def test_a_stack_without_memory_is_halved_in_the_middle_of_a_step(dataset, machine, teacher, monkeypatch):
    cells = [(float(t), 0.5, 0, {}) for t in range(1, 6)]
    how = {"double": True, "optimizer": "sgd"}
    alone, together = make(dataset, machine, cells, **how), make(dataset, machine, cells, **how)
    for cell in alone:
        cell.alone(teacher)
    forward, calls = Stack.forward, []

    def small(self, *given):  # memory runs out after the forward pass has moved the running statistics
        result = forward(self, *given)
        calls.append(len(self.steps))
        if len(self.steps) > 2 and len(calls) > 6:
            raise torch.OutOfMemoryError
        return result

    monkeypatch.setattr(Stack, "forward", small)
    lines = []
    fit_together([cell.training(teacher) for cell in together], always=True, say=lines.append)
    assert lines[1:] == [
        "one pass: 5 students do not fit in memory at once: halving the stack",
        "one pass: 3 students do not fit in memory at once: halving the stack",
    ]
    for one, other in zip(weights(alone), weights(together), strict=True):
        for name in one:
            torch.testing.assert_close(other[name], one[name], rtol=1e-10, atol=1e-12)


def test_trainings_of_other_lengths_are_refused(dataset, machine, teacher):
    cells = [*make(dataset, machine, CELLS[:1]), *make(dataset, machine, CELLS[1:2], epochs=3)]
    with pytest.raises(ValueError, match="one number of epochs"):
        fit_together([cell.training(teacher) for cell in copy.copy(cells)])
