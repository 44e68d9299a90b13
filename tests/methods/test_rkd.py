"""RKD: published values, an independent reference in loops, invariances, and images in the same place."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.rkd import RKD, relation_losses
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def through(student, teacher, **settings) -> torch.Tensor:
    return RKD(**settings)(Outputs(None, student), Outputs(None, teacher), None)


def pair(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, width, dtype=torch.float64, generator=generator) for width in (5, 9))


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q


@entries("RKD_distance", "RKD_angle", "RKD")
def test_distances_and_angles_are_the_published_ones(entry, dtype):
    weights = {name: entry["settings"][f"{name}_weight"] for name in ("distance", "angle")}
    # published code was also run on flattened maps, which are long embeddings
    agrees(entry, dtype, lambda student, teacher: through(student.flatten(1), teacher.flatten(1), **weights))


@entries("RKD_l2norm")
def test_the_variant_of_unit_length_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda student, teacher: through(student, teacher, normalize=True))


def huber(x: float) -> float:
    return x**2 / 2 if abs(x) < 1 else abs(x) - 0.5


def reference(student: np.ndarray, teacher: np.ndarray) -> tuple[float, float]:
    """Return the losses pair by pair and triplet by triplet, as in the paper, with means."""
    count = len(student)

    def distances(x):
        table = [[math.dist(x[i], x[j]) for j in range(count)] for i in range(count)]
        mean = sum(map(sum, table)) / (count * (count - 1))
        return [[value / mean for value in row] for row in table]

    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return 0.0 if i in (j, k) else a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    own, given = distances(student), distances(teacher)
    first = [huber(own[i][j] - given[i][j]) for i, j in itertools.product(range(count), repeat=2)]
    second = [
        huber(angle(student, i, j, k) - angle(teacher, i, j, k))
        for i, j, k in itertools.product(range(count), repeat=3)
    ]
    return sum(first) / len(first), sum(second) / len(second)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_losses_are_those_of_a_loop_over_pairs_and_triplets(count):
    student, teacher = pair(count)
    student[0] *= 20  # beyond the knee of the Huber loss
    got = [loss.item() for loss in relation_losses(student, teacher)]
    assert got == pytest.approx(reference(student.numpy(), teacher.numpy()), rel=1e-12, abs=1e-15)


def test_a_right_angle_against_a_line():
    """Three images: on a line, 1 apart, in the teacher; at a right angle in the student."""
    student = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    distances, angles = relation_losses(student, teacher)
    root = math.sqrt(2)
    near, far = 3 / (2 + root) - 3 / 4, 3 * root / (2 + root) - 6 / 4
    assert distances.item() == pytest.approx((4 * near**2 / 2 + 2 * far**2 / 2) / 9, rel=1e-12)
    # in the middle 0 against -1; at the ends 1/sqrt 2 against 1; twice each, since j and k change places
    assert angles.item() == pytest.approx((2 * 0.5 + 4 * (1 - 1 / root) ** 2 / 2) / 27, rel=1e-12)


def test_shifts_rotations_scales_and_order_change_nothing():
    student, teacher = pair()
    before = through(student, teacher).item()
    moved = through(student @ rotation(5) + 3, teacher @ rotation(9) - 1)
    assert moved.item() == pytest.approx(before, abs=1e-12)
    assert through(3 * student, 0.2 * teacher).item() == pytest.approx(before, abs=1e-12)
    order = torch.randperm(8)
    assert through(student[order], teacher[order]).item() == pytest.approx(before, abs=1e-12)


def test_a_moved_and_scaled_teacher_costs_nothing():
    teacher = pair()[1]
    assert through(2 * teacher @ rotation(9) + 5, teacher).item() == pytest.approx(0, abs=1e-13)


def test_at_unit_length_a_shift_counts_and_the_lengths_do_not():
    student, teacher = array("e_s"), array("e_t")
    before = through(student, teacher, normalize=True).item()
    assert all(abs(through(student + c, teacher, normalize=True).item() - before) > 1e-6 for c in (0.5, 1, 2, 4))
    lengths = torch.linspace(0.1, 9, len(student), dtype=torch.float64)[:, None]
    assert through(student * lengths, teacher, normalize=True).item() == pytest.approx(before, rel=1e-12)


def test_every_image_twice_keeps_the_angles_and_stretches_the_distances():
    """Copies are 0 apart and lower the mean distance from n0 to n1 pairs: (n1 / n0)^2 below the knee."""
    student, teacher = array("e_s"), array("e_t")
    distances, angles = relation_losses(student, teacher)
    twice = relation_losses(student.repeat(2, 1), teacher.repeat(2, 1))
    count = len(student)
    ratio = (2 * count * (2 * count - 1)) / (4 * count * (count - 1))
    assert (twice[0] / distances).item() == pytest.approx(ratio**2, rel=1e-3)
    assert (twice[1] / angles).item() == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["two identical", "all identical", "zeros", "two images", "teacher identical", "huge"])
def test_value_and_gradient_are_finite_and_of_ordinary_size(case, dtype, normalize):
    student, teacher = (x.to(dtype) for x in pair(2 if case == "two images" else 8))
    if case == "two identical":
        student[1] = student[0]
    elif case == "all identical":
        student[:] = student[0]
    elif case == "zeros":
        student[:3] = 0
    elif case == "teacher identical":
        teacher[:] = teacher[0]
    elif case == "huge":
        student *= 1e6
    student.requires_grad_()
    loss = through(student, teacher, normalize=normalize)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e3  # the published quotients give 1e10 and more where images coincide


def test_images_in_one_place_have_no_pull_on_each_other():
    student, teacher = pair(3)
    student[1] = student[0]
    student.requires_grad_()
    relation_losses(student[:2], teacher[:2])[1].backward()
    assert (student.grad == 0).all()


def test_float32_far_from_the_origin_is_as_good_as_float64():
    """After a ReLU all embeddings share a large mean, which a Gram matrix would square and subtract."""
    student, teacher = pair()
    student = (student * 0.01 + 100).float().double()
    exact, single = through(student, teacher), through(student.float(), teacher.float())
    assert single.item() == pytest.approx(exact.item(), rel=1e-4)


def test_the_yaml_weighs_distances_angles_and_labels():
    node = compose("kd=rkd", "kd.distance=2", "kd.angle=3", "kd.hard=0.5", "kd.weight=0.25").kd
    objective = Objective(instantiate(node.terms), dict(node.weights))
    student, teacher = pair()
    logits, target = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 6
    loss, _ = objective(Outputs(logits, student), Outputs(logits, teacher), Batch(None, target, None))
    distances, angles = relation_losses(student, teacher)
    hard = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(loss, 0.5 * hard + 0.25 * (2 * distances + 3 * angles))


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 6, 4, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    weights = torch.tensor([1.0, 25.0, 7.0], dtype=torch.float64)

    def loss(student, weight):
        return through(student, teacher, distance=weight, angle=2 * weight)

    stacked = torch.func.vmap(loss)(students, weights)
    separate = [loss(s, w.item()) for s, w in zip(students, weights, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(separate))


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="kd.distance is a weight"):
        RKD(distance=-1)
    with pytest.raises(ValueError, match="kd.angle is a weight"):
        RKD(angle=math.nan)
    with pytest.raises(ValueError, match="both 0"):
        RKD(0, 0)
    shown = Outputs(torch.zeros(2, 6), torch.zeros(2, 4))
    for teacher in (None, Outputs(torch.zeros(2, 6))):
        with pytest.raises(ValueError, match=r"the teacher shows none.*teacher.source=auto"):
            RKD().setup(shown, teacher)
    with pytest.raises(ValueError, match="kd=rkd compares the images of a batch"):
        through(torch.ones(1, 4), torch.ones(1, 4))
