"""CRLD: published values, the two thresholds, invariances, stacked students and refusals."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.methods.crld import AcrossViews, WithinViews, across_views, sure, within_views
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, called, entries, in_two_views, lesson, pair_of_logits


def views() -> tuple:
    """Return logits of student and teacher on a weak and on a strong view, and labels."""
    student, teacher, target = lesson()
    return (student, teacher), tuple(x.flip(0) for x in pair_of_logits()), target


@entries("CRLD_total")
def test_it_is_the_published_one(entry, dtype):
    settings = entry["settings"]

    def loss(weak_student, weak_teacher, strong_student, strong_teacher, target):
        terms = {
            "hard": CrossEntropy(),
            "within": WithinViews(settings["T"], settings["tau_w"]),
            "across": AcrossViews(settings["T"], settings["tau_s"]),
        }
        weights = {name: settings[f"{key}_weight"] for name, key in zip(terms, ("ce", "wv", "cv"), strict=True)}
        pairs = (weak_student, weak_teacher), (strong_student, strong_teacher)
        return in_two_views(Objective(terms, weights), *pairs, target)[0]

    agrees(entry, dtype, loss)


def test_the_published_yaml_is_the_published_objective():
    node = compose("kd=crld").kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    weak, strong, target = views()
    loss, parts = in_two_views(objective, weak, strong, target)
    hard = sum(torch.nn.functional.cross_entropy(student, target) for student, _ in (weak, strong))
    expected = hard + 2 * within_views(weak, strong, 4.0, 0.9) + 0.5 * across_views(weak, strong, 4.0, 0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["hard"], hard)  # the labels count on each view
    assert objective.views == 2 and objective.second_augment
    moved = compose("kd=crld", "kd.weak_threshold=0.1", "kd.strong_threshold=0.7").kd.terms
    assert (moved.within.threshold, moved.across.threshold) == (0.1, 0.7)


@pytest.mark.parametrize("loss", [within_views, across_views])
def test_where_the_teacher_is_not_sure_nothing_is_learned(loss):
    weak, strong, _ = views()
    masks = {within_views: sure(weak[1], 0.8), across_views: sure(strong[1], 0.8)}
    assert 0 < masks[loss].sum() < 8
    student = weak[0].clone().requires_grad_()
    loss((student, weak[1]), strong, 4.0, 0.8).backward()
    assert ((student.grad.abs().sum(-1) > 0) == (masks[loss] > 0)).all()


@pytest.mark.parametrize("loss", [within_views, across_views])
def test_shift_scale_and_twice_the_batch(loss):
    weak, strong, _ = views()
    before = loss(weak, strong, 4.0, 0.5)
    shifted = [tuple(x + n for x in pair) for n, pair in enumerate((weak, strong), 1)]
    torch.testing.assert_close(loss(*shifted, 4.0, 0.5), before)
    twice = [tuple(x.repeat(2, 1) for x in pair) for pair in (weak, strong)]
    torch.testing.assert_close(loss(*twice, 4.0, 0.5), before)
    doubled = [tuple(2 * x for x in pair) for pair in (weak, strong)]
    torch.testing.assert_close(loss(*doubled, 8.0, 0.0), 4 * loss(weak, strong, 4.0, 0.0))
    same = weak[1], weak[1]
    assert loss(same, same, 4.0, 0.0).abs() < 1e-14


def test_it_is_finite_at_60():
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    student.requires_grad_()
    pairs = (student, teacher), (student.flip(0), teacher)
    loss = within_views(*pairs, 1.0, 0.5) + across_views(*pairs, 1.0, 0.0)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    weak, strong, _ = views()
    students, numbers = torch.randn(3, 8, 6, dtype=torch.float64), torch.tensor([[1.0, 0.2], [2.0, 0.5], [4.0, 0.9]])

    def loss(student, number):
        return within_views((student, weak[1]), strong, *number) + across_views((student, weak[1]), strong, *number)

    separate = [loss(one, number) for one, number in zip(students, numbers, strict=True)]
    torch.testing.assert_close(torch.func.vmap(loss)(students, numbers), torch.stack(separate))


def test_senseless_settings_and_a_single_view_are_refused():
    with pytest.raises(ValueError, match="kd.temperature must be above 0, got 0"):
        WithinViews(0)
    with pytest.raises(ValueError, match=r"kd.weak_threshold is a probability and must lie in \[0, 1\], got 2"):
        WithinViews(4.0, 2)
    with pytest.raises(ValueError, match="kd.strong_threshold"):
        AcrossViews(4.0, -0.1)
    with pytest.raises(ValueError, match="kd=crld compares two views of each image, and this batch has one"):
        called(WithinViews(), *lesson())
