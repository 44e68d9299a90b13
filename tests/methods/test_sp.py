"""SP: published values, an independent reference in loops, invariances, and maps of zeros."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.sp import SP, similarity_loss
from tests.methods.published import agrees, array, entries


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q


def maps(*features: torch.Tensor) -> Outputs:
    return Outputs(None, features=features)


@entries("SP")
def test_similarities_are_the_published_ones(entry, dtype):
    term = SP()
    agrees(entry, dtype, lambda student, teacher: term(maps(student), maps(teacher), None))


def test_the_loss_is_that_of_a_loop_over_pairs_of_images():
    student, teacher = (array(name).numpy() for name in ("f_s_a", "f_t_b"))

    def similarities(x):
        table = np.array([[(a * b).sum() for b in x] for a in x])
        return [row / np.sqrt((row**2).sum()) for row in table]

    rows = zip(similarities(student), similarities(teacher), strict=True)
    expected = sum(((own - given) ** 2).sum() for own, given in rows) / len(student) ** 2
    assert similarity_loss(array("f_s_a"), array("f_t_b")).item() == pytest.approx(expected, rel=1e-12)


def test_two_orthogonal_images_against_two_equal_ones():
    """G_s = I, G_t has 1/sqrt 2 everywhere: the squares are (1 - 1/sqrt 2)^2 twice and 1/2 twice, over 4."""
    student = torch.eye(2, dtype=torch.float64)[..., None, None]
    teacher = torch.ones(2, 3, 1, 1, dtype=torch.float64)
    expected = (2 * (1 - 0.5**0.5) ** 2 + 2 * 0.5) / 4
    assert similarity_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_a_rotation_or_a_scale_of_all_changes_nothing_and_the_scale_of_one_image_does():
    student, teacher = array("f_s_a"), array("f_t_a")
    before = similarity_loss(student, teacher).item()
    turned = (x.flatten(1) @ rotation(x[0].numel()) for x in (student, teacher))
    assert similarity_loss(*turned).item() == pytest.approx(before, abs=1e-13)
    assert similarity_loss(7 * student, teacher).item() == pytest.approx(before, abs=1e-14)
    one = student.clone()
    one[0] *= 3
    assert abs(similarity_loss(one, teacher).item() - before) > 1e-6
    assert similarity_loss(5 * teacher, teacher).item() == pytest.approx(0, abs=1e-15)


def test_every_image_twice_halves_the_loss():
    """Rows of unit length over twice the images: entries fall by sqrt 2, and their mean square by 2 (L1 rows: by 4)."""
    student, teacher = array("f_s_a"), array("f_t_a")
    twice = similarity_loss(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    assert (twice / similarity_loss(student, teacher)).item() == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["one image of zeros", "all zeros", "teacher of zeros", "identical", "huge"])
def test_value_and_gradient_are_finite_and_of_ordinary_size(case, dtype):
    student, teacher = array("f_s_r", dtype).clone(), array("f_t_a", dtype).clone()
    if case == "one image of zeros":
        student[2] = 0
    elif case == "all zeros":
        student[:] = 0
    elif case == "teacher of zeros":
        teacher[:] = 0
    elif case == "identical":
        student[:] = student[0]
    elif case == "huge":
        student *= 1e6
    student.requires_grad_()
    loss = similarity_loss(student, teacher)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert student.grad.abs().max() < 1  # the published quotient gives 1e10 at an image of zeros


def test_stages_are_counted_from_the_deep_end_and_summed():
    student, teacher = (maps(*(array(f"f_{who}_{name}") for name in "ab")) for who in "st")
    last = similarity_loss(array("f_s_b"), array("f_t_b"))
    torch.testing.assert_close(SP()(student, teacher, None), last)
    both = last + similarity_loss(array("f_s_a"), array("f_t_a"))
    torch.testing.assert_close(SP(None)(student, teacher, None), both)
    torch.testing.assert_close(SP([-2, -1])(student, teacher, None), both)


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 6, 4, 2, 2, dtype=torch.float64), torch.randn(6, 9, 1, 1, dtype=torch.float64)
    stacked = torch.func.vmap(similarity_loss, in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(stacked, torch.stack([similarity_loss(s, teacher) for s in students]))


def test_what_cannot_work_is_refused():
    student, teacher = maps(torch.ones(2, 4, 4, 4)), maps(torch.ones(2, 8, 2, 2))
    with pytest.raises(ValueError, match="the teacher shows none"):
        SP().setup(student, Outputs(torch.zeros(2, 6)))
    with pytest.raises(ValueError, match="kd.stages"):
        SP([-2]).setup(student, teacher)
    with pytest.raises(ValueError, match="kd=sp compares the images of a batch"):
        SP()(maps(torch.ones(1, 4, 4, 4)), maps(torch.ones(1, 8, 2, 2)), None)
