"""Measured trainings: equal to the bit without the measuring, and with the same rows when killed and resumed."""

from __future__ import annotations

import math

import pytest
import torch

from kd.data.loader import Loader
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.user_warnings import KdWarning
from kd.teachers.live import LiveTeacher
from kd.train.checkpoint import CheckpointFolder
from kd.train.gradients import table_of
from kd.train.loop import fit
from kd.train.meter import Ahead, Tally, moments
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.together import fit_together
from kd.train.training import Training
from tests.train.test_gradients import line_step
from tests.train.test_together import Killed
from tests.views import AUGMENT

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(dataset, machine):
    torch.manual_seed(9)
    return LiveTeacher(Normalized(TinyCNN(6, 16, width=0.5), dataset.mean, dataset.std), machine)


class Run:
    """A student of 6 steps an epoch, to be trained."""

    def __init__(self, dataset, machine, folder=None, weights=(0.1, 0.9), balance=None, parts=1, seed=0, **how):
        torch.manual_seed(seed)
        self.network, self.rows = Normalized(TinyCNN(6, 16, width=0.25, dropout=0.2), dataset.mean, dataset.std), []
        terms = {"hard": CrossEntropy(), "soft": Hinton(4.0)}
        self.objective = Objective(terms, dict(zip(terms, weights, strict=True)))
        if balance:
            self.objective.balance_to({"soft": balance})
        loader = Loader(dataset, 16, seed, CPU, grad_accum_steps=parts, augment=AUGMENT)
        self.about = (self.network, self.objective, loader, Recipe(how.pop("epochs", 3), lr=0.01, ema=0.9), machine)
        checkpoints = folder and CheckpointFolder(folder, minutes=0)  # after every step
        self.how = {"stage": "student", "log": self.rows.append, "checkpoints": checkpoints, **how}

    def alone(self, teacher):
        return fit(*self.about, teacher=teacher, **self.how)

    def training(self, teacher):
        return Training(*self.about, teacher=teacher, together=True, **self.how)

    @property
    def state(self):
        return {**self.network.state_dict(), **self.objective.state_dict()}

    @property
    def timeless(self):
        return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s", "stage")} for row in self.rows]


def same(one, other) -> bool:
    return one.state.keys() == other.state.keys() and all(torch.equal(v, other.state[k]) for k, v in one.state.items())


@pytest.mark.parametrize("parts", [1, 2])
def test_a_measured_training_is_one_without_to_the_bit(dataset, machine, teacher, parts):
    measured, plain = (Run(dataset, machine, parts=parts, measure_gradients=on) for on in (True, False))
    for run in (measured, plain):
        run.alone(teacher)
    assert same(measured, plain)
    assert [{k: v for k, v in row.items() if k != "gradients"} for row in measured.timeless] == plain.timeless
    found = [[entry["progress"] for entry in row.get("gradients", [])] for row in measured.rows]
    assert found == [[0.0, pytest.approx(1 / 18)], [], [pytest.approx(17 / 18)]]
    for entry in (entry for row in measured.rows for entry in row.get("gradients", [])):
        terms = entry["terms"]
        assert sum(term["share"] for term in terms.values()) == pytest.approx(1)
        assert terms["hard"]["cosine"] == pytest.approx(1) and abs(terms["soft"]["cosine"]) <= 1
        assert min(term["norm"] for term in terms.values()) > 0


def test_the_start_is_the_gradient_of_the_first_batch(dataset, machine, teacher):
    run = Run(dataset, machine)
    training = Training(*run.about, teacher=teacher, **run.how)
    batch = next(training.loader.epoch(1))
    table = table_of(training.train_step.train(), batch, training.answer(batch), ["hard", "soft"])
    training.train_epoch()
    terms = run.rows[0]["gradients"][0]["terms"]
    assert terms["hard"]["norm"] == pytest.approx(0.1 * table[1, 0].item(), rel=1e-6)
    assert terms["soft"]["norm"] == pytest.approx(0.9 * table[2, 0].item(), rel=1e-6)
    assert terms["soft"]["cosine"] == pytest.approx(table[2, 1].item(), rel=1e-5)


@pytest.mark.parametrize("balance", [None, 2.0])
def test_a_killed_training_has_the_rows_of_a_whole_one(dataset, machine, teacher, tmp_path, balance, monkeypatch):
    monkeypatch.setattr("kd.train.meter.moments", lambda *about: (2, {(1, 2), (3, 4)}))
    whole = Run(dataset, machine, balance=balance)
    about = whole.alone(teacher)
    for after in (3, 17):  # in the midst of the second and of the third measurement: a step asks the teacher once
        folder = tmp_path / str(after)
        killed, again = (Run(dataset, machine, folder, balance=balance) for _ in range(2))
        with pytest.raises(KeyboardInterrupt):
            killed.alone(Killed(teacher, after))
        assert any(folder.glob("*.pt"))
        found = again.alone(teacher)
        assert same(again, whole) and again.timeless == whole.timeless
        assert found.get("weights") == about.get("weights")
    assert len(whole.rows[0]["gradients"]) == 2


def test_students_in_a_pass_have_the_rows_of_their_own_trainings(dataset, machine, teacher):
    alone, together = ([Run(dataset, machine, seed=seed) for seed in (0, 0, 1)] for _ in range(2))
    for run in alone:
        run.alone(teacher)
    fit_together([run.training(teacher) for run in together], say=lambda line: None)
    assert all(same(*pair) for pair in zip(alone, together, strict=True))
    assert [run.timeless for run in alone] == [run.timeless for run in together]


def test_students_in_a_stack_too(dataset, machine, teacher):
    runs, alone = (
        [Run(dataset, machine, weights=(1 - a, a), balance=b, epochs=2) for a, b in how]
        for how in [((0.5, 1.0), (0.9, 2.0))] * 2
    )
    for run in (*runs, *alone):
        run.network.double()
        for module in run.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    for run in alone:
        run.alone(teacher)
    lines = []
    fit_together([run.training(teacher) for run in runs], always=True, say=lines.append)
    assert lines == ["one pass: 2 students in stacks of 2, not timed"]
    for run, own in zip(runs, alone, strict=True):
        for row, right in zip(run.rows, own.rows, strict=True):
            for entry, other in zip(row["gradients"], right["gradients"], strict=True):
                for name, term in entry["terms"].items():
                    assert term == pytest.approx(other["terms"][name], rel=1e-5)


def test_labels_alone_cost_nothing(dataset, machine, monkeypatch):
    monkeypatch.setattr("kd.train.meter.table_of", None)  # a call would fail
    torch.manual_seed(0)
    network, rows = Normalized(TinyCNN(6, 16, width=0.25), dataset.mean, dataset.std), []
    objective, loader = Objective({"hard": CrossEntropy()}, {"hard": 1.0}), Loader(dataset, 16, 0, CPU, augment=AUGMENT)
    fit(network, objective, loader, Recipe(1), machine, stage="baseline", log=rows.append)
    assert "gradients" not in rows[0]


def test_what_cannot_be_measured_ends_the_measuring_and_not_the_training(dataset, machine, teacher, monkeypatch):
    def fail(*about):
        raise RuntimeError("out of luck")

    plain, run = Run(dataset, machine, measure_gradients=False), Run(dataset, machine)
    plain.alone(teacher)
    monkeypatch.setattr("kd.train.meter.table_of", fail)
    with pytest.warns(KdWarning, match="the gradients of its terms cannot be measured: .*out of luck"):
        run.alone(teacher)
    assert same(run, plain) and not any("gradients" in row for row in run.rows)
    with pytest.raises(RuntimeError, match="out of luck"):  # the weights depend on it
        Run(dataset, machine, balance=1.0).alone(teacher)


def test_a_tally_takes_means_and_leaves_out_what_is_not_finite(machine):
    step, batch = line_step(machine)
    tally = Tally(0.25, ["hard", "along", "across"])
    for scale in (1, 3):
        tally.add(scale * table_of(step, batch, None, tally.terms).nan_to_num() / 2)
    assert tally.labels == pytest.approx(3.0)
    row = Tally.of(vars(tally)).row({"hard": 1.0, "along": 0.5})
    assert row["progress"] == 0.25 and [*row["terms"]] == ["hard", "along"]
    assert row["terms"]["along"] == pytest.approx({"norm": 2.0, "share": 0.4, "cosine": -1.0})
    tally.add(torch.full((4, 2), math.inf, dtype=torch.float64))
    assert tally.row({"hard": 1.0})["terms"] == {"hard": {"norm": None, "share": None, "cosine": None}}


def test_a_measurement_costs_two_percent_of_the_steps_or_is_one_micro_batch():
    for steps, epochs, terms in ((100, 1, 2), (30, 6, 2), (500, 10, 2), (500, 10, 6), (1, 1, 2), (2, 5, 3)):
        count, starts = moments(steps, epochs, terms)
        assert count == 1 or 3 * count * (1 + 2 * terms) / 3 <= 0.02 * steps * epochs
        assert all(1 <= epoch <= epochs and 0 <= step <= steps - count for epoch, step in starts)
    assert moments(500, 10, 2) == (3, {(2, 0), (10, 497)})
    assert moments(1, 1, 2) == (1, set())


def test_parts_that_were_looked_at_come_again():
    parts = Ahead(iter([("a", None), ("b", None), ("c", None)]))
    assert parts.look_ahead(2) == [("a", None), ("b", None)] == parts.look_ahead(2)
    assert [next(parts) for _ in range(3)] == [("a", None), ("b", None), ("c", None)]
    assert parts.look_ahead(2) == []
