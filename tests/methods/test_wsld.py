"""WSLD: published values, the closed form of its gradient, and the weights of images."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.wsld import WSLD, share_of_images, weighted_soft_labels
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def lesson(classes: int = 6, count: int = 8):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, count, classes, dtype=torch.float64)
    return student, teacher, torch.arange(count) % classes


@entries("WSLD")
def test_wsld_is_the_published_one(entry, dtype):
    term, weight = WSLD(entry["settings"]["T"]), entry["settings"]["weight"]
    agrees(entry, dtype, lambda z, t, y: weight * term(Outputs(z), Outputs(t), Batch(None, y, None)))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_is_that_of_weighted_kl_with_constant_weights(temperature):
    student, teacher, target = lesson()
    student.requires_grad_()
    (slope,) = torch.autograd.grad(weighted_soft_labels(student, teacher, target, temperature), student)
    with torch.no_grad():
        rows = torch.arange(8)
        mine, theirs = (-z.softmax(-1)[rows, target].log() for z in (student, teacher))
        weight = 1 - (-mine / (theirs + 1e-7)).exp()
        apart = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
        torch.testing.assert_close(slope, weight[:, None] * temperature * apart / 8, rtol=0, atol=1e-13)


def test_an_image_counts_by_who_knows_its_label_better():
    knows, guesses, target = torch.tensor([[20.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([0])
    assert share_of_images(guesses, knows, target).item() == pytest.approx(1)
    assert share_of_images(knows, guesses, target).item() == pytest.approx(0, abs=1e-6)
    assert share_of_images(guesses, guesses, target).item() == pytest.approx(0.632, abs=1e-3)  # 1 - 1/e


def test_the_weights_carry_no_gradient():
    student, teacher, target = lesson()
    assert not share_of_images(student.requires_grad_(), teacher, target).requires_grad


def test_a_shift_of_a_row_changes_nothing():
    student, teacher, target = lesson()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here = weighted_soft_labels(student, teacher, target, 2.0)
    there = weighted_soft_labels(student + shift, teacher - 2 * shift, target, 2.0)
    assert here.item() == pytest.approx(there.item(), abs=1e-9)


def test_twice_the_same_batch_is_the_same_loss():
    given = lesson()
    twice = [torch.cat([x, x]) for x in given]
    once = weighted_soft_labels(*given, 2.0).item()
    assert weighted_soft_labels(*twice, 2.0).item() == pytest.approx(once, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_and_a_teacher_without_doubt_stay_finite_in_float32(temperature):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    target = array("y_ext")
    right = 60 * torch.eye(6)[target]  # its cross entropy is 0 in float32
    for apart in (student, right, -right, torch.zeros_like(student), teacher):
        for known in (teacher, right, -right):
            apart = apart.detach().clone().requires_grad_()
            loss = weighted_soft_labels(apart, known, target, temperature)
            loss.backward()
            assert loss.isfinite() and apart.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)

    def slope(student, temperature):
        term = WSLD(temperature)
        return torch.func.grad(lambda z: term(Outputs(z), Outputs(teacher), Batch(None, target, None)))(student)

    stacked = torch.func.vmap(slope)(students, temperatures)
    one_by_one = [slope(student, t.item()) for student, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="kd.temperature must be above 0"):
        WSLD(temperature)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=wsld", "kd.temperature=3", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * weighted_soft_labels(student, teacher, target, 3.0))
