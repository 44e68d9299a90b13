"""NKD: published values, its relation to DKD, and two classes."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import decoupled_kl, drop_target
from kd.methods.nkd import NKD, normalized_kd
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson


def target_part(student, teacher, target):
    """Return -p_teacher log p_student of the target, mean over the batch, from probabilities."""
    rows = torch.arange(len(target))
    return -(teacher.softmax(-1)[rows, target] * student.softmax(-1)[rows, target].log()).mean()


@entries("NKD")
def test_nkd_is_the_published_one(entry, dtype):
    term = NKD(entry["settings"]["T"], entry["settings"]["gamma"])
    agrees(entry, dtype, lambda z, t, y: term(Outputs(z), Outputs(t), Batch(None, y, None)))


def test_without_the_others_the_target_is_left():
    given = lesson()
    for temperature in (1.0, 4.0):  # the target has T = 1
        assert normalized_kd(*given, temperature, 0.0).item() == pytest.approx(target_part(*given).item(), abs=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_beside_the_target_it_is_dkds_part_and_the_entropy_of_the_teacher(temperature):
    student, teacher, target = lesson()
    q = (drop_target(teacher, target) / temperature).softmax(-1)
    entropy = -(q * q.log()).sum(-1).mean()
    nckd = decoupled_kl(student, teacher, target, temperature)[1]
    expected = target_part(student, teacher, target) + 1.5 * (nckd + temperature**2 * entropy)
    assert normalized_kd(student, teacher, target, temperature, 1.5).item() == pytest.approx(expected.item(), abs=1e-11)


def test_a_shift_of_a_row_changes_nothing():
    student, teacher, target = lesson()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here = normalized_kd(student, teacher, target, 1.0, 1.5)
    there = normalized_kd(student + shift, teacher - 2 * shift, target, 1.0, 1.5)
    assert here.item() == pytest.approx(there.item(), abs=1e-11)


def test_twice_the_same_batch_is_the_same_loss():
    given = lesson()
    twice = [torch.cat([x, x]) for x in given]
    once = normalized_kd(*given, 2.0, 1.5).item()
    assert normalized_kd(*twice, 2.0, 1.5).item() == pytest.approx(once, rel=1e-12)


def test_of_two_classes_the_target_is_left_and_the_term_says_so():
    given = lesson(2)
    assert normalized_kd(*given, 4.0, 1.5).item() == pytest.approx(target_part(*given).item(), rel=1e-12)
    with pytest.warns(UserWarning, match="two classes: .* no gradient"):
        NKD().setup(Outputs(given[0]), Outputs(given[1]))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_in_float32(temperature):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    target = array("y_ext")
    for apart in (student, 60 - 120 * torch.eye(6)[target], torch.zeros_like(student), teacher):
        apart = apart.clone().requires_grad_()
        loss = normalized_kd(apart, teacher, target, temperature, 1.5)
        loss.backward()
        assert loss.isfinite() and apart.grad.isfinite().all()
    exact = normalized_kd(student.double(), teacher.double(), target, temperature, 1.5)
    loss = normalized_kd(student, teacher, target, temperature, 1.5)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 3.0, 4.0], [1.5, 0.0, 3.5]], dtype=torch.float64)

    def slope(student, temperature, rest):
        term = NKD(temperature, rest)
        return torch.func.grad(lambda z: term(Outputs(z), Outputs(teacher), Batch(None, target, None)))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"), [({"temperature": 0}, "kd.temperature"), ({"nontarget": -1}, "kd.nontarget")]
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        NKD(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=nkd", "kd.temperature=3", "kd.nontarget=3.5", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * normalized_kd(student, teacher, target, 3.0, 3.5))
