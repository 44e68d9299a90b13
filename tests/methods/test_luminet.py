"""LumiNet: published values, the statistics of a batch, and its invariances."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.luminet import EPS, LumiNet, calibrate, calibrated_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, pair_of_logits


def called(term, student, teacher):
    return term(Outputs(student), Outputs(teacher), None)


@entries("LumiNet")
def test_luminet_is_the_published_one(entry, dtype):
    assert entry["settings"]["eps"] == EPS
    term = LumiNet(entry["settings"]["T"], entry["settings"]["alpha"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_the_z_scores_are_those_of_a_batch_norm_and_the_term_is_hintons_on_them():
    student, teacher = pair_of_logits()
    own, given = (torch.nn.functional.batch_norm(z, None, None, training=True) for z in (student, teacher))
    torch.testing.assert_close(calibrate(student), own)
    expected = soft_label_kl(own, given, 3.0) * 25 / 9
    assert calibrated_kl(student, teacher, 3.0, 5.0).item() == pytest.approx(expected.item(), rel=1e-11)


def test_size_and_offset_of_a_class_do_not_matter_and_those_of_an_image_do():
    student, teacher = pair_of_logits()
    here = called(LumiNet(), student, teacher).item()
    size, offset = torch.rand(2, 1, 6, dtype=torch.float64) + 1
    assert called(LumiNet(), size * student + offset, teacher).item() == pytest.approx(here, rel=1e-4)
    assert called(LumiNet(), student, size * teacher - offset).item() == pytest.approx(here, rel=1e-4)
    assert called(LumiNet(), size * teacher + offset, teacher).item() == pytest.approx(0, abs=1e-6)
    assert called(LumiNet(), teacher, teacher).item() == pytest.approx(0, abs=1e-15)
    assert abs(called(LumiNet(), student + torch.arange(8)[:, None], teacher).item() - here) > 1e-2


def test_twice_the_same_batch_is_the_same_loss():
    student, teacher = pair_of_logits()
    here = called(LumiNet(), student, teacher).item()
    assert called(LumiNet(), student.repeat(2, 1), teacher.repeat(2, 1)).item() == pytest.approx(here, rel=1e-12)


def test_one_image_has_no_statistics():
    student, teacher = pair_of_logits(count=1)
    with pytest.raises(ValueError, match=r"kd=luminet compares the images of a batch .* has 1"):
        called(LumiNet(), student, teacher)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_and_constant_logits_stay_finite_and_right_in_float32(temperature):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    for apart in (student, 60 - 120 * torch.eye(6)[array("y_ext")], torch.zeros_like(student), teacher):
        exact = called(LumiNet(temperature), apart.double(), teacher.double()).item()
        apart = apart.clone().requires_grad_()
        loss = called(LumiNet(temperature), apart, teacher)
        loss.backward()
        assert apart.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5, abs=1e-9)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher = pair_of_logits()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 3.0, 4.0], [1.0, 8.0, 33.0]], dtype=torch.float64)

    def slope(student, *numbers):
        return torch.func.grad(lambda z: called(LumiNet(*numbers), z, teacher))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("named", ["temperature", "scale"])
def test_numbers_that_mean_nothing_are_refused(named):
    with pytest.raises(ValueError, match=f"kd.{named} must be above 0"):
        LumiNet(**{named: 0})


def test_the_yaml_puts_every_number_in_its_place():
    own = {"temperature": 3, "scale": 5, "hard": 0.5, "weight": 4, "warmup": 0.1}
    kd = compose("kd=luminet", *(f"kd.{name}={value}" for name, value in own.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    student, teacher = pair_of_logits()
    target = torch.arange(8) % 6
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=0.05))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * 0.5 * calibrated_kl(student, teacher, 3.0, 5.0))
