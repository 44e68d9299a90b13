"""Tf-KD_reg: published values, the target by hand, invariances, and a run without a teacher."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.tf_kd import TfKD, designed_kl, designed_logits
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def lesson() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(7, 5, dtype=torch.float64), torch.arange(7) % 5


def through(term, student, target):
    return term(Outputs(student), None, Batch(None, target, None))


@entries("TfKD_reg_total")
def test_the_published_weights_are_these_after_a_division_by_the_classes(entry, dtype):
    given = entry["settings"]
    term = TfKD(given["T"], given["correct_prob"])

    def loss(student, target):
        weight = given["alpha"] * given["multiplier"] / student.shape[-1]
        return (1 - given["alpha"]) * F.cross_entropy(student, target) + weight * through(term, student, target)

    agrees(entry, dtype, loss)


def test_the_target_by_hand():
    """Two classes, T = 1/2, 0.75 on the label: logits 1.5 and 0.5."""
    logits = designed_logits(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1]), 0.5, 0.75)
    assert logits.tolist() == [[0.5, 1.5]]
    p = 1 / (1 + math.exp(-1))
    expected = math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)  # against an even student
    found = designed_kl(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1]), 0.5, 0.75)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_shifts_and_copies_change_nothing_and_the_target_itself_costs_nothing():
    student, target = lesson()
    here = designed_kl(student, target, 20.0).item()
    shift = torch.linspace(-20, 20, 7, dtype=torch.float64)[:, None]
    assert designed_kl(student + shift, target, 20.0).item() == pytest.approx(here, rel=1e-12)
    twice = designed_kl(student.repeat(2, 1), target.repeat(2), 20.0)
    assert twice.item() == pytest.approx(here, rel=1e-12)
    assert designed_kl(designed_logits(student, target, 20.0), target, 20.0).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0, 1e5])
def test_float32_is_precise_near_and_far(temperature):
    student, target = array("z_s_ext", torch.float32), array("y_ext")
    near = designed_logits(student, target, temperature) + 1e-3 * student / student.abs().max()
    for logits in (student, near, 60 - 120 * torch.eye(6)[target], torch.zeros_like(student)):
        logits = logits.clone().requires_grad_()
        loss = designed_kl(logits, target, temperature)
        loss.backward()
        assert loss.item() >= 0 and loss.isfinite() and logits.grad.isfinite().all()
        exact = designed_kl(logits.detach().double(), target, temperature).item()
        assert loss.item() == pytest.approx(exact, rel=1e-3, abs=1e-12)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, target = lesson()
    students = torch.randn(3, 7, 5, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 20.0, 40.0], [0.9, 0.99, 0.5]], dtype=torch.float64)

    def slope(student, temperature, correct):
        return torch.func.grad(lambda z: through(TfKD(temperature, correct), z, target))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"temperature": 0}, "kd.temperature"), ({"correct": 0}, "kd.correct"), ({"correct": 1.1}, "kd.correct")],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        TfKD(**settings)


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="kd=tf_kd spreads probability"):
        TfKD().setup(Outputs(torch.zeros(2, 1)), None)


def test_the_yaml_puts_every_number_in_its_place_and_asks_for_no_teacher():
    kd = compose("kd=tf_kd", "kd.temperature=3", "kd.correct=0.8", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert not objective.needs
    student, target = lesson()
    loss = objective(Outputs(student), None, Batch(None, target, None))[0]
    torch.testing.assert_close(
        loss, 0.5 * F.cross_entropy(student, target) + 4 * designed_kl(student, target, 3.0, 0.8)
    )
