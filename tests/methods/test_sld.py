"""SLD: published values, the pseudo-teacher of both variants, invariances, stacked students and refusals."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.methods.kd_swap import swap
from kd.methods.sld import PseudoTeacher, SwappedTeacher, swapped_kl
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries, in_two_views, lesson, pair_of_logits


def views() -> tuple:
    student, teacher, target = lesson()
    return (student, teacher), tuple(x.flip(0) for x in pair_of_logits()), target


@entries("SLD_total")
def test_it_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    progress = settings["epoch"] / 240

    def loss(weak_student, weak_teacher, strong_student, strong_teacher, target):
        temperatures, soft = settings["temperatures"], settings["kd_weight"]
        terms = {
            "hard": CrossEntropy(),
            "teacher": SwappedTeacher(temperatures),
            "pseudo": PseudoTeacher(temperatures, "code"),
        }
        weights = {"hard": settings["ce_weight"], "teacher": soft, "pseudo": soft}
        after = {"pseudo": {"start": (settings["second_teacher_after_epoch"] + 0.5) / 240}}
        pairs = (weak_student, weak_teacher), (strong_student, strong_teacher)
        return in_two_views(Objective(terms, weights, after), *pairs, target, progress=progress)[0]

    agrees(entry, dtype, loss)


def test_the_pseudo_teacher_is_a_constant_and_gets_a_gradient_in_the_code():
    """Both variants have the value of the published code, the default its gradient with the pseudo-teacher held."""
    weak, strong, target = views()
    students = [weak[0].clone().requires_grad_() for _ in range(3)]
    values = [
        in_two_views(term, (student, weak[1]), strong, target)
        for term, student in zip((PseudoTeacher(), PseudoTeacher(variant="code")), students[:2], strict=True)
    ]
    held = swap(weak[0], target)
    by_hand = sum(
        t**2 * (torch.softmax(held / t, -1) * -torch.log_softmax(students[2] / t, -1)).sum(-1).mean()
        for t in range(1, 7)
    )
    for value in (*values, by_hand):
        value.backward()
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(students[0].grad, students[2].grad)
    assert (students[0].grad - students[1].grad).abs().max() > 1e-3


def test_where_all_are_right_the_pseudo_teacher_is_silent_and_the_teacher_is_hintons():
    weak, _, _ = views()
    right = weak[0].argmax(-1)
    assert swapped_kl(weak[0], weak[0], right, [1.0, 2.0]).abs() < 1e-14
    torch.testing.assert_close(swap(weak[0], right), weak[0])


def test_shift_scale_and_twice_the_batch():
    (student, teacher), _, target = views()
    before = swapped_kl(student, teacher, target, [1.0, 4.0])
    torch.testing.assert_close(swapped_kl(student + 1, teacher - 2, target, [1.0, 4.0]), before)
    torch.testing.assert_close(swapped_kl(2 * student, 2 * teacher, target, [2.0, 8.0]), 4 * before)
    twice = [x.repeat(2, *(1,) * (x.ndim - 1)) for x in (student, teacher, target)]
    torch.testing.assert_close(swapped_kl(*twice, [1.0, 4.0]), before)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_it_is_finite_at_60(variant):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    student.requires_grad_()
    target = torch.arange(len(student)) % student.shape[-1]
    pairs = (student, teacher), (student.flip(0), teacher)
    loss = in_two_views(SwappedTeacher(), *pairs, target) + in_two_views(PseudoTeacher(variant=variant), *pairs, target)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    (_, teacher), _, target = views()
    students, numbers = torch.randn(3, 8, 6, dtype=torch.float64), torch.tensor([1.0, 2.0, 4.0])

    def loss(student, t):
        return swapped_kl(student, teacher, target, [t]) + swapped_kl(student, student, target, [t, 2 * t])

    separate = [loss(one, t) for one, t in zip(students, numbers, strict=True)]
    torch.testing.assert_close(torch.func.vmap(loss)(students, numbers), torch.stack(separate))


def test_the_yaml_puts_every_number_in_its_place():
    node = compose(
        "kd=sld", "kd.temperatures=[2,3]", "kd.hard=0.2", "kd.weight=0.5", "kd.start=0.4", "kd.variant=code"
    ).kd
    objective = Objective(instantiate(node.terms), dict(node.weights), node.schedule)
    weak, strong, target = views()
    hard = sum(torch.nn.functional.cross_entropy(student, target) for student, _ in (weak, strong))
    by_teacher, by_itself = (
        sum(swapped_kl(pair[0], pair[which], target, [2, 3]) for pair in (weak, strong)) for which in (1, 0)
    )
    early, late = (in_two_views(objective, weak, strong, target, progress=done)[0] for done in (0.3, 0.5))
    torch.testing.assert_close(early, 0.2 * hard + 0.5 * by_teacher)
    torch.testing.assert_close(late, early + 0.5 * by_itself)
    assert objective.terms["pseudo"].variant == "code" and objective.views == 2 and objective.second_augment
    assert compose("kd=sld").kd.terms.pseudo.variant == "paper"


def test_senseless_settings_and_a_single_view_are_refused():
    for wrong in ([], 4.0, [2.0, 0.0]):
        with pytest.raises(ValueError, match="kd.temperatures must"):
            SwappedTeacher(wrong)
    with pytest.raises(ValueError, match="kd.variant must be one of paper, code, got 'published'"):
        PseudoTeacher(variant="published")
    with pytest.raises(ValueError, match="kd=sld compares two views of each image, and this batch has one"):
        called(PseudoTeacher(), *lesson())
