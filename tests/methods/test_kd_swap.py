"""Soft labels of a corrected teacher: published values, the swap, and its invariances."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.kd_swap import SwappedKD, swap
from kd.methods.lskd import standardize
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries, lesson


@entries("KD_swap")
def test_it_is_the_published_one(entry, dtype):
    term = SwappedKD(entry["settings"]["T"], entry["settings"]["logit_stand"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_the_largest_logit_and_the_targets_change_places_and_a_right_row_stays():
    logits = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0], [2.0, 2.0, 0.0]])
    assert swap(logits, torch.tensor([0, 1, 1])).tolist() == [[5.0, 1.0, 3.0], [1.0, 5.0, 3.0], [2.0, 2.0, 0.0]]
    _, teacher, target = lesson()
    swapped = swap(teacher, target)
    assert torch.equal(swapped.argmax(-1), target)
    assert torch.equal(swapped.sort(-1).values, teacher.sort(-1).values)


def test_with_a_teacher_that_is_right_it_is_the_plain_term():
    student, teacher, target = lesson()
    right = called(SwappedKD(3.0), student, teacher, teacher.argmax(-1))
    assert right.item() == soft_label_kl(student, teacher, 3.0).item()
    assert called(SwappedKD(), swap(teacher, target), teacher, target).item() == 0
    assert called(SwappedKD(), teacher, teacher, target) > 0.1


def test_shift_scale_and_a_doubled_batch():
    student, teacher, target = lesson()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here = called(SwappedKD(), student, teacher, target).item()
    assert called(SwappedKD(), student + shift, teacher - 2 * shift, target).item() == pytest.approx(here, rel=1e-10)
    assert called(SwappedKD(8.0), 2 * student, 2 * teacher, target).item() == pytest.approx(4 * here)
    twice = called(SwappedKD(), student.repeat(2, 1), teacher.repeat(2, 1), target.repeat(2)).item()
    assert twice == pytest.approx(here, rel=1e-12)
    stand = SwappedKD(logit_stand=True)
    moved = called(stand, 2 * student + shift, 3 * teacher, target).item()
    assert moved == pytest.approx(called(stand, student, teacher, target).item(), rel=1e-6)


@pytest.mark.parametrize("stand", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_and_right_in_float32(temperature, stand):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    target, term = array("y_ext"), SwappedKD(temperature, stand)
    for apart in (student, 60 - 120 * torch.eye(6)[target], torch.zeros_like(student), teacher):
        exact = called(term, apart.double(), teacher.double(), target).item()
        apart = apart.clone().requires_grad_()
        loss = called(term, apart, teacher, target)
        loss.backward()
        assert apart.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5, abs=1e-9)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)

    def slope(student, temperature):
        return torch.func.grad(lambda z: called(SwappedKD(temperature), z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, temperatures)
    one_by_one = [slope(student, t.item()) for student, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


def test_two_classes_have_no_z_scores_and_the_term_says_so():
    student, teacher, _ = lesson(2)
    with pytest.warns(UserWarning, match="logit_stand=false works"):
        SwappedKD(logit_stand=True).setup(Outputs(student), Outputs(teacher))


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="kd.temperature must be above 0"):
        SwappedKD(temperature)


@pytest.mark.parametrize("stand", [False, True])
def test_the_yaml_puts_every_number_in_its_place(stand):
    kd = compose("kd=kd_swap", "kd.temperature=3", f"kd.logit_stand={stand}", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    pair = student, swap(teacher, target)
    soft = soft_label_kl(*(map(standardize, pair) if stand else pair), 3.0)
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * soft)
