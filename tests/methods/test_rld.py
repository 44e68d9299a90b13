"""RLD: published values, what the mask leaves out, its relation to DKD, and refusals."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import decoupled_kl
from kd.methods.lskd import standardize
from kd.methods.rld import RLD, masked_kl_each, refined_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries, lesson


@entries("RLD")
def test_rld_is_the_published_one(entry, dtype):
    s = entry["settings"]
    term = RLD(s["T"], s["alpha_T"], s["alpha"], s["beta"], s["logit_stand"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_it_is_what_loops_make_of_the_formula():
    student, teacher, target = lesson()
    sure, ranked = 0.0, 0.0
    for z_s, z_t, y in zip(student, teacher, target.tolist(), strict=True):
        m, r = (z_t / 2).softmax(-1).max(), (z_s / 2).softmax(-1)[y]
        sure += 4 * (m * (m / r).log() + (1 - m) * ((1 - m) / (1 - r)).log()) / len(target)
        below = [k for k in range(6) if z_t[k] < z_t[y]]
        if below:
            p, q = (z_t[below] / 3).softmax(-1), (z_s[below] / 3).softmax(-1)
            ranked += 9 * (p * (p / q).log()).sum() / len(target)
    found = refined_kl(student, teacher, target, 3.0, 2.0)
    assert [x.item() for x in found] == pytest.approx([sure.item(), ranked.item()], rel=1e-11)


def test_with_a_teacher_that_is_right_it_is_dkd():
    student, teacher, _ = lesson()
    top = teacher.argmax(-1)
    torch.testing.assert_close(refined_kl(student, teacher, top, 4.0, 4.0), decoupled_kl(student, teacher, top, 4.0))
    assert all(part.abs() < 1e-14 for part in refined_kl(teacher, teacher, top, 4.0, 4.0))
    assert refined_kl(teacher, teacher, teacher.argmin(-1), 4.0, 4.0)[0] > 0.1


def test_a_label_that_is_the_teachers_last_class_or_tied_with_it_leaves_no_class():
    student, teacher, _ = lesson()
    student.requires_grad_()
    part = refined_kl(student, teacher, teacher.argmin(-1), 4.0, 1.0)[1]
    (slope,) = torch.autograd.grad(part, student)
    assert part.item() == 0 and not slope.any()
    assert not masked_kl_each(student, 0 * teacher, 0 * teacher < 0, 4.0).any()


@pytest.mark.parametrize("settings", [{}, {"logit_stand": True}])
def test_a_shift_of_a_row_and_a_doubled_batch_change_nothing(settings):
    student, teacher, target = lesson()
    term, shift = RLD(**settings), torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here = called(term, student, teacher, target).item()
    assert called(term, student + shift, teacher - 2 * shift, target).item() == pytest.approx(here, abs=1e-10)
    twice = called(term, student.repeat(2, 1), teacher.repeat(2, 1), target.repeat(2)).item()
    assert twice == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_and_right_in_float32(temperature):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    target = array("y_ext")
    term = RLD(temperature)
    for apart in (student, 60 - 120 * torch.eye(6)[target], torch.zeros_like(student), teacher):
        exact = called(term, apart.double(), teacher.double(), target).item()
        apart = apart.clone().requires_grad_()
        loss = called(term, apart, teacher, target)
        loss.backward()
        assert apart.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 3.0, 4.0], [1.0, 2.0, 1.0], [1.0, 0.0, 2.0], [8.0, 2.0, 0.0]], dtype=torch.float64)

    def slope(student, *numbers):
        return torch.func.grad(lambda z: called(RLD(*numbers), z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


def test_of_two_classes_one_part_is_left_and_the_term_says_so():
    student, teacher, target = lesson(2)
    assert refined_kl(student, teacher, target, 4.0, 1.0)[1].item() == 0
    with pytest.warns(UserWarning, match="two classes: at most one"):
        RLD().setup(Outputs(student), Outputs(teacher))
    with pytest.warns(UserWarning, match="logit_stand=false works"):
        RLD(logit_stand=True).setup(Outputs(student), Outputs(teacher))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0}, "kd.temperature"),
        ({"confidence_temperature": -1}, "kd.confidence_temperature"),
        ({"confidence": -1}, "kd.confidence"),
        ({"correlation": -1}, "kd.correlation"),
        ({"confidence": 0, "correlation": 0}, "both 0"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        RLD(**settings)


@pytest.mark.parametrize("stand", [False, True])
def test_the_yaml_puts_every_number_in_its_place(stand):
    own = {"temperature": 3, "confidence_temperature": 2, "confidence": 5, "correlation": 6, "logit_stand": stand}
    own |= {"hard": 0.5, "weight": 4, "warmup": 0.1}
    kd = compose("kd=rld", *(f"kd.{name}={value}" for name, value in own.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=0.05))[0]
    pair = (standardize(student), standardize(teacher)) if stand else (student, teacher)
    sure, ranked = refined_kl(*pair, target, 3.0, 2.0)
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * 0.5 * (5 * sure + 6 * ranked))
