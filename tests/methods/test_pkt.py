"""PKT: published values, an independent reference in loops, invariances, and embeddings of zeros."""

from __future__ import annotations

import math

import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.pkt import EPS, PKT, neighbour_loss
from tests.methods.published import agrees, array, entries


@entries("PKT")
def test_neighbours_are_the_published_ones(entry, dtype):
    assert entry["settings"]["eps"] == EPS
    term = PKT()
    agrees(entry, dtype, lambda student, teacher: term(Outputs(None, student), Outputs(None, teacher), None))


def test_the_loss_is_that_of_a_loop_over_pairs_of_images():
    student, teacher = array("e_s").tolist(), array("e_t").tolist()

    def probabilities(x):
        length = [math.hypot(*row) for row in x]
        alike = [
            [(1 + sum(a * b for a, b in zip(p, q, strict=True)) / (length[i] * length[j])) / 2 for j, q in enumerate(x)]
            for i, p in enumerate(x)
        ]
        return [[value / sum(row) for value in row] for row in alike]

    cells = [
        given * math.log(given / own)
        for rows in zip(probabilities(student), probabilities(teacher), strict=True)
        for own, given in zip(*rows, strict=True)
    ]
    # without eps: 1e-7 of probabilities of about 1/8
    assert neighbour_loss(array("e_s"), array("e_t")).item() == pytest.approx(sum(cells) / len(cells), rel=1e-5)


def test_two_orthogonal_images_against_two_opposite_ones():
    """Student: cosines 1 and 0, so 2/3 and 1/3. Teacher: 1 and -1, so 1 and 0. KL = log 1.5 a row, over 2 columns."""
    student, teacher = torch.eye(2, dtype=torch.float64), torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    assert neighbour_loss(student, teacher).item() == pytest.approx(math.log(1.5) / 2, rel=1e-5)


def test_rotations_and_lengths_change_nothing_and_an_equal_student_costs_nothing():
    student, teacher = array("e_s"), array("e_t")
    before = neighbour_loss(student, teacher).item()
    turn = torch.linalg.qr(torch.randn(student.shape[1], student.shape[1], dtype=torch.float64)).Q
    lengths = torch.linspace(0.5, 3, len(student), dtype=torch.float64)[:, None]
    assert neighbour_loss(student @ turn * lengths, teacher / lengths).item() == pytest.approx(before, abs=1e-7)
    assert neighbour_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-15)
    assert neighbour_loss(student + 1, teacher).item() != pytest.approx(before, rel=1e-3)  # a shift does


def test_every_image_twice_halves_the_loss():
    student, teacher = array("e_s"), array("e_t")
    twice = neighbour_loss(student.repeat(2, 1), teacher.repeat(2, 1))
    assert (twice / neighbour_loss(student, teacher)).item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["one of zeros", "all zeros", "teacher of zeros", "identical", "opposite", "huge"])
def test_value_and_gradient_are_finite_and_of_ordinary_size(case, dtype):
    student, teacher = array("e_s", dtype).clone(), array("e_t", dtype).clone()
    if case == "one of zeros":
        student[2] = 0
    elif case == "all zeros":
        student[:] = 0
    elif case == "teacher of zeros":
        teacher[:] = 0
    elif case == "identical":
        student[:] = student[0]
    elif case == "opposite":
        student[1] = -student[0]
    elif case == "huge":
        student *= 1e6
    student.requires_grad_()
    loss = neighbour_loss(student, teacher)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e3


def test_an_image_of_zeros_counts_as_unlike_all_and_is_left_alone():
    """The cosines of a zero embedding are 0, as in the published forward pass; the other images still learn."""
    student, teacher = array("e_s").clone(), array("e_t")
    student[2] = 0
    slightly = student.clone()
    slightly[2, 0] = 1e-20  # the published eps beside the length makes it as good as zero
    student.requires_grad_()
    loss = neighbour_loss(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(neighbour_loss(slightly, teacher).item(), rel=1e-9)
    assert (student.grad[2] == 0).all() and (student.grad[[0, 1, 3]] != 0).any()


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 6, 4, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    stacked = torch.func.vmap(neighbour_loss, in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(stacked, torch.stack([neighbour_loss(s, teacher) for s in students]))


def test_what_cannot_work_is_refused():
    shown = Outputs(torch.zeros(2, 6), torch.zeros(2, 4))
    for teacher in (None, Outputs(torch.zeros(2, 6))):
        with pytest.raises(ValueError, match=r"the teacher shows none.*teacher.source=auto"):
            PKT().setup(shown, teacher)
    with pytest.raises(ValueError, match="kd=pkt compares the images of a batch"):
        PKT()(Outputs(None, torch.ones(1, 4)), Outputs(None, torch.ones(1, 4)), None)
