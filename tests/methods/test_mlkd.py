"""MLKD: published values, the paper's variant against loops, levels over the batch size, and errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.mlkd import (
    MLKD,
    PUBLISHED,
    WEAK_VIEW_TEMPERATURES,
    alignment,
    batch_alignment,
    class_alignment,
    code_loss,
    code_of_two_views,
    confidence_masks,
)
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, in_two_views

LEVELS = [batch_alignment, class_alignment]


def pair(count: int = 8, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(2 * torch.randn(count, classes, dtype=torch.float64, generator=generator) for _ in range(2))


def through(student, teacher, temperatures=PUBLISHED, variant="code") -> torch.Tensor:
    return MLKD(temperatures, variant, False)(Outputs(student), Outputs(teacher), Batch(None, None, None))


@entries("MLKD_BC")
def test_batch_alignment_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda s, t: batch_alignment(s, t, entry["settings"]["T"]))


@entries("MLKD_CC")
def test_class_alignment_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda s, t: class_alignment(s, t, entry["settings"]["T"]))


@entries("MLKD_total_as_coded")
def test_the_objective_of_two_views_is_the_published_one(entry, dtype):
    settings = entry["settings"]

    def loss(weak_student, weak_teacher, strong_student, strong_teacher, target):
        weak, strong = (weak_student, weak_teacher), (strong_student, strong_teacher)
        if settings["term"] == "loss_kd":
            return settings["kd_weight"] * code_of_two_views(weak, strong, PUBLISHED, WEAK_VIEW_TEMPERATURES)[0]
        whole = Objective(
            {"hard": CrossEntropy(), "mlkd": MLKD()}, {"hard": settings["ce_weight"], "mlkd": settings["kd_weight"]}
        )
        return in_two_views(whole, weak, strong, target)[0]

    agrees(entry, dtype, loss)


def test_on_one_view_the_module_is_what_the_published_objective_makes_of_the_weak_one():
    student, teacher = pair()
    views = [student.clone().requires_grad_(), student.clone().requires_grad_()]
    in_two_views(MLKD(), (views[0], teacher), pair(), torch.arange(8) % 6).backward()
    through(views[1], teacher).backward()
    torch.testing.assert_close(*(view.grad for view in views))


def test_the_strong_view_of_the_paper_has_the_terms_that_the_code_takes_from_the_weak_one_too():
    weak, strong = pair(), tuple(x.flip(0) for x in pair(8, 6))
    whole = in_two_views(MLKD(variant="paper"), weak, strong, torch.arange(8) % 6)
    expected = alignment(*weak, PUBLISHED) + sum(soft_label_kl(*strong, t) for t in PUBLISHED)
    torch.testing.assert_close(whole, expected, rtol=1e-14, atol=0)


def reference(student: np.ndarray, teacher: np.ndarray, temperatures) -> float:
    """Return the variant ``paper``, computed in loops."""
    count, classes = student.shape

    def softmax(row, t):
        powers = [math.exp(z / t) for z in row]
        return [power / sum(powers) for power in powers]

    at_one = [softmax(row, 1) for row in teacher]
    sure = [max(row) for row in at_one]
    mass = [sum(row[k] for row in at_one) for k in range(classes)]
    kept_images = [b for b in range(count) if sure[b] <= np.percentile(sure, 50)]
    kept_classes = [k for k in range(classes) if mass[k] <= np.percentile(mass, 50)]
    total = 0.0
    for t in temperatures:
        p, q = [softmax(row, t) for row in teacher], [softmax(row, t) for row in student]
        for b in kept_images:
            total += t**2 * sum(p[b][k] * math.log(p[b][k] / q[b][k]) for k in range(classes)) / count
        for b, other in itertools.product(kept_images, range(count)):
            total += (np.dot(q[b], q[other]) - np.dot(p[b], p[other])) ** 2 / count
        for k, other in itertools.product(kept_classes, range(classes)):
            own, given = (sum(x[b][k] * x[b][other] for b in range(count)) for x in (q, p))
            total += (own - given) ** 2 / classes
    return total


@pytest.mark.parametrize(("count", "classes"), [(8, 6), (5, 7), (2, 2)])
def test_the_variant_of_the_paper_is_that_of_loops_over_marked_images_and_classes(count, classes):
    student, teacher = pair(count, classes)
    got = through(student, teacher, [1.0, 3.0], "paper").item()
    assert got == pytest.approx(reference(student.numpy(), teacher.numpy(), [1.0, 3.0]), rel=1e-12)


def test_marked_are_the_images_and_classes_that_the_teacher_is_least_sure_of():
    logits = torch.tensor([[9.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.0]])
    images, classes = confidence_masks(logits)
    assert images.tolist() == [0, 0, 1, 1] and classes.tolist() == [0, 1, 1]
    assert all(
        mark.tolist() == [1] * len(mark) for mark in confidence_masks(torch.zeros(4, 3))
    )  # of equals all, as published


def test_variants_agree_where_every_image_and_class_is_marked():
    """With a teacher of equal confidence in all images and classes, all factors are 1."""
    student, teacher = pair()[0], torch.zeros(8, 6, dtype=torch.float64)
    paper, parts = alignment(student, teacher, [3.0, 5.0]), code_loss(student, teacher, [3.0, 5.0], [])
    assert paper.item() == pytest.approx(sum(parts).item(), rel=1e-12)


def test_an_unmarked_image_teaches_nothing_of_its_own_in_the_variant_of_the_paper():
    student, teacher = pair()
    images, _ = confidence_masks(teacher)
    student.requires_grad_()
    # at a high temperature the Gram terms vanish (T^-2 each) and Hinton's tends to a quadratic form of order 1
    through(student, teacher, [1e4], "paper").backward()
    moved = student.grad.abs().amax(-1)
    assert (moved[images == 0] < 1e-6).all() and (moved[images == 1] > 1e-3).all()


@pytest.mark.parametrize("level", LEVELS)
def test_a_shift_of_an_images_logits_changes_nothing(level):
    student, teacher = pair()
    shift = torch.linspace(-5, 5, 8, dtype=torch.float64)[:, None]
    assert level(teacher + shift, teacher, 2.0).item() == pytest.approx(0, abs=1e-20)
    assert level(student + shift, teacher, 2.0).item() == pytest.approx(level(student, teacher, 2.0).item(), rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_the_order_of_images_and_of_classes_changes_nothing(level):
    student, teacher = pair()
    before = level(student, teacher, 2.0).item()
    images, classes = torch.randperm(8), torch.randperm(6)
    assert level(student[images], teacher[images], 2.0).item() == pytest.approx(before, abs=1e-14)
    assert level(student[:, classes], teacher[:, classes], 2.0).item() == pytest.approx(before, abs=1e-14)


@pytest.mark.parametrize(("level", "ratio"), [(batch_alignment, 2), (class_alignment, 4)])
def test_every_image_twice_multiplies_a_level(level, ratio):
    student, teacher = pair()
    twice = level(student.repeat(2, 1), teacher.repeat(2, 1), 2.0)
    assert (twice / level(student, teacher, 2.0)).item() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_nothing_is_left_to_learn_from_an_equal(variant):
    teacher = pair()[1]
    student = teacher.clone().requires_grad_()
    loss = through(student, teacher, [1.0, 2.0], variant)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-14) and student.grad.abs().max() < 1e-14


@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("case", ["extreme", "zeros", "identical", "equal"])
def test_value_and_gradient_are_finite(case, variant):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    assert max(student.abs().max(), teacher.abs().max()) == 60
    if case == "zeros":
        student, teacher = torch.zeros_like(student), torch.zeros_like(teacher)
    elif case == "identical":
        student, teacher = student[:1].repeat(8, 1), teacher[:1].repeat(8, 1)
    elif case == "equal":
        student = teacher.clone()
    student.requires_grad_()
    loss = through(student, teacher, [1.0, 2.0], variant)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_stack_of_students_learns_as_separate_students_do():
    teacher, students = pair()[1], torch.randn(3, 8, 6, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)

    def loss(student, t):
        return alignment(student, teacher, [t, 2 * t]) + sum(code_loss(student, teacher, [t], [t]))

    stacked = torch.func.vmap(loss)(students, temperatures)
    separate = [loss(s, t.item()) for s, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(separate))


def test_the_yaml_weighs_the_teacher_and_takes_a_list_of_temperatures():
    node = compose("kd=mlkd", "kd.temperatures=[1,3]", "kd.variant=paper", "kd.alpha=0.25", "kd.strong_view=false").kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    student, teacher = pair()
    target = torch.arange(8) % 6
    loss, _ = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.75 * hard + 0.25 * alignment(student, teacher, [1.0, 3.0]))


@pytest.mark.parametrize("temperatures", [[], 4.0, [2.0, 0.0], [-1.0], [math.nan]])
def test_temperatures_that_are_no_list_of_positive_numbers_are_refused(temperatures):
    with pytest.raises(ValueError, match="kd.temperatures must"):
        MLKD(temperatures)


def test_an_unknown_variant_and_a_batch_of_one_are_refused():
    with pytest.raises(ValueError, match="kd.variant must be one of code, paper"):
        MLKD(variant="published")
    with pytest.raises(ValueError, match="kd=mlkd compares the images of a batch"):
        through(torch.zeros(1, 6), torch.zeros(1, 6))
