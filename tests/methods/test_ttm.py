"""TTM and WTTM: published values, what they are at power 1, and the weight of an image."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.ttm import TTM, WTTM, power_sum
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, pair_of_logits

KINDS = (TTM, WTTM)


def called(term, student, teacher):
    return term(Outputs(student), Outputs(teacher), None)


@entries("TTM", "WTTM")
def test_both_are_the_published_ones(entry, dtype):
    term = (TTM if entry["method"] == "TTM" else WTTM)(entry["settings"]["gamma"])
    agrees(entry, dtype, lambda *given: called(term, *given))


@pytest.mark.parametrize("kind", KINDS)
def test_at_power_one_both_are_the_plain_divergence(kind):
    student, teacher = pair_of_logits()
    assert called(kind(1.0), student, teacher).item() == pytest.approx(soft_label_kl(student, teacher, 1.0).item())
    assert called(kind(1.0), teacher, teacher).item() == pytest.approx(0, abs=1e-15)
    assert called(kind(0.1), teacher, teacher) > 1e-2, "the temperature stands on one side"


def test_the_power_makes_a_teacher_at_one_over_it():
    student, teacher = pair_of_logits()
    target = teacher.softmax(-1) ** 0.3
    target = target / target.sum(-1, keepdim=True)
    expected = (target * (target.log() - student.log_softmax(-1))).sum(-1).mean()
    assert called(TTM(0.3), student, teacher).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_weight_of_an_image_is_one_for_a_sure_teacher_and_largest_for_an_even_one():
    sure, even = torch.tensor([[900.0, 0, 0, 0]]), torch.zeros(1, 4)
    assert power_sum(sure, 0.5).item() == 1 and power_sum(even, 0.5).item() == pytest.approx(4**0.5)
    _, teacher = pair_of_logits()
    assert (power_sum(teacher, 0.5) > 1).all() and (power_sum(teacher, 0.5) < 6**0.5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_of_a_row_and_a_doubled_batch_change_nothing(kind):
    student, teacher = pair_of_logits()
    here = called(kind(0.2), student, teacher).item()
    shift = torch.linspace(-20, 20, len(student), dtype=torch.float64)[:, None]
    assert called(kind(0.2), student + shift, teacher - 2 * shift).item() == pytest.approx(here, abs=1e-11)
    assert called(kind(0.2), student.repeat(2, 1), teacher.repeat(2, 1)).item() == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_far_logits_stay_finite_and_right_in_float32(kind):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    exact = called(kind(0.2), student.double(), teacher.double()).item()
    loss = called(kind(0.2), student.requires_grad_(), teacher)
    loss.backward()
    assert student.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_students_learns_as_separate_students_do(kind):
    _, teacher = pair_of_logits()
    students, powers = torch.randn(3, *teacher.shape, dtype=torch.float64), torch.tensor([0.1, 0.5, 2.0]).double()

    def slope(student, power):
        return torch.func.grad(lambda z: called(kind(power), z, teacher))(student)

    stacked = torch.func.vmap(slope)(students, powers)
    one_by_one = [slope(student, power.item()) for student, power in zip(students, powers, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [0, -0.1, float("nan")])
def test_a_power_that_means_nothing_is_refused(kind, power):
    with pytest.raises(ValueError, match="kd.power must be above 0"):
        kind(power)


@pytest.mark.parametrize(("method", "kind"), [("ttm", TTM), ("wttm", WTTM)])
def test_the_yaml_puts_every_number_in_its_place(method, kind):
    kd = compose(f"kd={method}", "kd.power=0.3", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher = pair_of_logits()
    target = torch.arange(8) % 6
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * called(kind(0.3), student, teacher))
