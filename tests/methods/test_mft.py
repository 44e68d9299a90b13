"""Minifinetuning: published values, the corrected teacher, sure teachers, and refusals."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.mft import EPS, MFT, corrected, corrected_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries, lesson


@entries("MFT")
def test_mft_is_the_published_one(entry, dtype):
    assert entry["settings"]["eps"] == EPS
    term = MFT(entry["settings"]["T"], entry["settings"]["threshold"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_the_label_leads_by_the_threshold_or_gains_it():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05]], dtype=torch.float64)
    found = corrected(p.log(), torch.tensor([0, 1, 0]), 0.2, 1.0).exp()
    expected = torch.tensor([[0.9, 0.2 / 3, 0.1 / 3], [4.8 / 13, 7.4 / 13, 0.8 / 13], [1, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    _, teacher, target = lesson(count=12)
    every = corrected(teacher, target, 0.1, 2.0).exp()
    torch.testing.assert_close(every.sum(-1), torch.ones(12, dtype=torch.float64))
    assert torch.equal(every.argmax(-1), target)


def test_with_a_teacher_that_is_right_and_no_threshold_it_is_the_plain_term():
    student, teacher, target = lesson()
    top = teacher.argmax(-1)
    right = corrected_kl(student, teacher, top, 0.0, 3.0).item()
    assert right == pytest.approx(soft_label_kl(student, teacher, 3.0).item(), rel=1e-12)
    assert called(MFT(), teacher, teacher, target) > 0.1
    hard = torch.nn.functional.cross_entropy(student, target).item()
    assert corrected_kl(student, teacher, target, 1.0, 1.0).item() == pytest.approx(hard, rel=1e-4), "the label alone"


def test_shift_scale_and_a_doubled_batch():
    student, teacher, target = lesson()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here = called(MFT(), student, teacher, target).item()
    assert called(MFT(), student + shift, teacher - 2 * shift, target).item() == pytest.approx(here, rel=1e-10)
    assert called(MFT(2.0), 2 * student, 2 * teacher, target).item() == pytest.approx(4 * here)
    twice = called(MFT(), student.repeat(2, 1), teacher.repeat(2, 1), target.repeat(2)).item()
    assert twice == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_and_sure_teachers_stay_finite_and_right_in_float32(temperature, threshold):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    target, term = array("y_ext"), MFT(temperature, threshold)
    for given in (teacher, 60 * torch.eye(6)[target], -60 * torch.eye(6)[target], torch.zeros_like(teacher)):
        for apart in (student, 60 - 120 * torch.eye(6)[target], torch.zeros_like(student), given):
            exact = called(term, apart.double(), given.double(), target).item()
            apart = apart.clone().requires_grad_()
            loss = called(term, apart, given, target)
            loss.backward()
            assert apart.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5, abs=1e-6)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 2.0, 4.0], [0.2, 0.0, 1.0]], dtype=torch.float64)

    def slope(student, *numbers):
        return torch.func.grad(lambda z: called(MFT(*numbers), z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"temperature": 0}, "kd.temperature"), ({"threshold": -0.1}, "kd.threshold"), ({"threshold": 2}, r"\[0, 1\]")],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        MFT(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=mft", "kd.temperature=3", "kd.threshold=0.3", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * corrected_kl(student, teacher, target, 0.3, 3.0))
