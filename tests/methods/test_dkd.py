"""DKD: published values, identity with Hinton's term, invariances, float32 where the published code overflows."""

from __future__ import annotations

from math import log

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import DKD, decoupled_kl, drop_target, target_or_not
from kd.methods.hinton import soft_label_kl
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def lesson(classes: int = 6, count: int = 8):
    """Logits of student and teacher and labels, float64."""
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(2, count, classes, dtype=torch.float64)
    return student, teacher, torch.arange(count) % classes


def called(term, student, teacher, target, progress=1.0):
    return term(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=progress))


@entries("DKD")
def test_dkd_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    term = DKD(settings["T"], settings["alpha"], settings["beta"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def warmed(settings, epochs=240):
    return Objective(
        {"hard": CrossEntropy(), "dkd": DKD(settings["T"], settings["alpha"], settings["beta"])},
        {"hard": settings["ce_weight"], "dkd": 1.0},
        {"dkd": {"rise": settings["warmup"] / epochs}},
    )


@entries("DKD_total")
def test_the_sum_with_its_warmup_is_the_published_one(entry, dtype):
    objective, progress = warmed(entry["settings"]), entry["settings"]["epoch_1based"] / 240
    agrees(entry, dtype, lambda *given: called(objective, *given, progress=progress)[0])


def test_in_the_warmup_the_weight_is_the_share_of_it_that_is_behind():
    objective = warmed({"T": 4, "alpha": 1, "beta": 8, "ce_weight": 1, "warmup": 20})
    loss, parts = called(objective, *lesson(), progress=5 / 240)
    torch.testing.assert_close(loss, parts["hard"] + 0.25 * parts["dkd"])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_of_each_image_hintons_term_is_tckd_and_what_the_teacher_leaves_of_nckd(temperature):
    for student, teacher, target in zip(*lesson(), strict=True):
        one = student[None], teacher[None], target[None], temperature
        tckd, nckd = decoupled_kl(*one)
        sure = (teacher / temperature).softmax(-1)[target]
        expected = soft_label_kl(student, teacher, temperature)
        assert (tckd + (1 - sure) * nckd).item() == pytest.approx(expected.item(), abs=1e-12)


def test_both_parts_against_loops_over_probabilities():
    student, teacher, target = lesson(4, 3)
    tckd = nckd = 0.0
    for z, t, y in zip(student, teacher, target.tolist(), strict=True):
        p, q = (z / 2).softmax(-1).tolist(), (t / 2).softmax(-1).tolist()
        rest = [c for c in range(4) if c != y]
        mine, theirs = sum(p[c] for c in rest), sum(q[c] for c in rest)
        tckd += 4 / 3 * (q[y] * log(q[y] / p[y]) + theirs * log(theirs / mine))
        nckd += 4 / 3 * sum(q[c] / theirs * log((q[c] / theirs) / (p[c] / mine)) for c in rest)
    ours = decoupled_kl(student, teacher, target, 2.0)
    assert [part.item() for part in ours] == pytest.approx([tckd, nckd], rel=1e-12)


def test_a_shift_of_a_row_changes_nothing():
    student, teacher, target = lesson()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here, there = called(DKD(), student, teacher, target), called(DKD(), student + shift, teacher - 2 * shift, target)
    assert here.item() == pytest.approx(there.item(), abs=1e-11)


def test_the_non_target_part_ignores_the_logit_of_the_target():
    student, teacher, target = lesson()
    more = 5 * torch.nn.functional.one_hot(target, 6)
    student.requires_grad_()
    nckd = decoupled_kl(student, teacher, target, 4.0)[1]
    assert decoupled_kl(student + more, teacher + more, target, 4.0)[1].item() == nckd.item()
    (slope,) = torch.autograd.grad(nckd, student)
    assert (slope * more).abs().max() == 0 < slope.abs().max()


def test_twice_the_same_batch_is_the_same_loss():
    given = lesson()
    twice = [torch.cat([x, x]) for x in given]
    assert called(DKD(), *twice).item() == pytest.approx(called(DKD(), *given).item(), rel=1e-12)


def test_of_two_classes_hintons_term_is_left_and_the_term_says_so():
    student, teacher, target = lesson(2)
    tckd, nckd = decoupled_kl(student, teacher, target, 4.0)
    assert nckd.item() == 0
    assert tckd.item() == pytest.approx(soft_label_kl(student, teacher, 4.0).item(), rel=1e-12)
    with pytest.warns(UserWarning, match="two classes: .* no gradient"):
        DKD().setup(Outputs(student), Outputs(teacher))


def test_what_stands_beside_the_target():
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert drop_target(logits, torch.tensor([0, 1, 2])).tolist() == [[2, 3], [4, 6], [7, 8]]
    student, _, target = lesson()
    p = (student / 3).softmax(-1).gather(-1, target[:, None])
    pair = (target_or_not(student, target, 3.0) / 3).softmax(-1)
    torch.testing.assert_close(pair, torch.cat([p, 1 - p], -1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_in_float32(temperature):
    """At T = 1 the published logarithm of a softmax is infinite for these logits, and its gradient NaN."""
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    target, term = array("y_ext"), DKD(temperature, 1.0, 8.0)
    exact = called(term, student.double(), teacher.double(), target)
    for apart in (student, student - 200, 60 * torch.eye(6)[target], 60 - 120 * torch.eye(6)[target]):
        apart = apart.clone().requires_grad_()
        loss = called(term, apart, teacher, target)
        loss.backward()
        assert loss.isfinite() and apart.grad.isfinite().all()
    assert called(term, student, teacher, target).item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_student_that_equals_its_teacher_is_at_rest():
    student, _, target = lesson()
    student.requires_grad_()
    loss = called(DKD(), student, student.detach(), target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12) and student.grad.abs().max() < 1e-12


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 4.0, 8.0], [1.0, 0.0, 2.0], [8.0, 1.0, 0.5]], dtype=torch.float64)

    def slope(student, temperature, share, rest):
        return torch.func.grad_and_value(lambda z: called(DKD(temperature, share, rest), z, teacher, target))(student)

    slopes, values = torch.func.vmap(slope)(students, *numbers)
    for i, student in enumerate(students):
        one, value = slope(student, *numbers[:, i].tolist())
        torch.testing.assert_close((slopes[i], values[i]), (one, value))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"temperature": 0}, "kd.temperature"), ({"target": -1}, "kd.target"), ({"nontarget": -0.5}, "kd.nontarget")],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        DKD(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=dkd", "kd.temperature=3", "kd.target=2", "kd.nontarget=5", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    student, teacher, target = lesson()
    tckd, nckd = decoupled_kl(student, teacher, target, 3.0)
    hard = torch.nn.functional.cross_entropy(student, target)
    loss = called(objective, student, teacher, target, progress=0.083 / 2)[0]
    torch.testing.assert_close(loss, 0.5 * hard + 4 / 2 * (2 * tckd + 5 * nckd))
