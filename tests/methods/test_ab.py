"""AB: the loss agrees with the paper's cases, the order of boundaries and labels, and errors."""

from __future__ import annotations

import pytest
import torch

from kd.interfaces import Batch, Outputs
from kd.methods.ab import AB, boundary_loss
from tests.conftest import compose


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def showing(*maps: torch.Tensor) -> Outputs:
    return Outputs(torch.zeros(len(maps[0]), 6), None, maps)


def slow(student: torch.Tensor, teacher: torch.Tensor, margin: float) -> float:
    """The paper's alternative loss with its two indicators, number by number."""
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        if t > 0 and s <= margin:
            total += (s - margin) ** 2
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
    return total / len(student)


@pytest.mark.parametrize("margin", [1.0, 0.25])
@pytest.mark.parametrize("relu", [False, True])
def test_it_agrees_with_the_paper_number_by_number(margin, relu):
    student, teacher = draw(4, 3, 5, 4), draw(4, 3, 5, 4)
    teacher = teacher.relu() if relu else teacher
    assert boundary_loss(student, teacher, margin).item() == pytest.approx(slow(student, teacher, margin), rel=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher", "expected", "slope"),
    [
        (0.25, 4.0, 0.5625, -1.5),  # on the right side, not yet by the margin
        (-1.0, 4.0, 4.0, -4.0),  # on the wrong side
        (1.5, 4.0, 0.0, 0.0),  # far enough: how active the teacher is does not matter
        (-0.25, 0.0, 0.5625, 1.5),  # a ReLU's 0 is inactive
        (1.0, -3.0, 4.0, 4.0),
        (-1.5, 0.0, 0.0, 0.0),
    ],
)
def test_each_case_by_hand(student, teacher, expected, slope):
    student, teacher = (torch.tensor([[[[value]]]], dtype=torch.float64) for value in (student, teacher))
    student.requires_grad_()
    loss = boundary_loss(student, teacher)
    loss.backward()
    assert loss.item() == expected and student.grad.item() == slope


def test_only_the_side_of_the_teacher_counts():
    student, teacher = draw(3, 4, 5, 5), draw(3, 4, 5, 5)
    value = boundary_loss(student, teacher)
    assert torch.equal(boundary_loss(student, teacher * 100), value)
    assert torch.equal(boundary_loss(student, teacher.relu()), value)
    assert torch.equal(boundary_loss(-student, -teacher), value)


def test_the_batch_size_does_not_matter():
    student, teacher = draw(3, 4, 5, 5), draw(3, 4, 5, 5)
    twice = boundary_loss(torch.cat([student] * 2), torch.cat([teacher] * 2))
    torch.testing.assert_close(twice, boundary_loss(student, teacher))


def test_stages_weigh_half_as_much_towards_the_image_and_a_larger_teacher_is_sampled():
    student = showing(draw(2, 3, 8, 8), draw(2, 3, 2, 2))
    teacher = showing(draw(2, 9, 9, 9), draw(2, 3, 4, 4), draw(2, 3, 6, 6))
    term = AB(margin=0.5)
    term.setup(student, teacher)
    term.connectors = torch.nn.ModuleList([torch.nn.Identity()] * 2)
    first = slow(torch.nn.functional.avg_pool2d(student.features[0], 2), teacher.features[1], 0.5)
    last = slow(student.features[1], teacher.features[2][:, :, 1::3, 1::3], 0.5)
    assert term(student, teacher, None).item() == pytest.approx(first / 2 + last, rel=1e-12)


def test_a_sampled_relu_keeps_its_boundaries_where_a_pooled_one_would_not():
    """One neuron in nine is active: most samples are not, all means are."""
    teacher = torch.zeros(1, 1, 9, 9)
    teacher[..., ::3, ::3] = 1.0
    term = AB()
    term.setup(showing(torch.zeros(1, 1, 3, 3)), showing(teacher))
    term.connectors = torch.nn.ModuleList([torch.nn.Identity()])
    assert term(showing(torch.full((1, 1, 3, 3), -1.0)), showing(teacher), None) == 0


def test_there_is_a_connector_even_between_maps_of_one_shape():
    """A student's map after a ReLU could never be below -margin without a connector."""
    term = AB()
    term.setup(showing(draw(2, 3, 4, 4)), showing(draw(2, 3, 4, 4)))
    (connector,) = term.connectors
    assert connector[0].weight.shape == (3, 3, 1, 1) and isinstance(connector[1], torch.nn.BatchNorm2d)


def test_boundaries_come_first_and_labels_after_them():
    from kd.build import build_objective

    objective = build_objective(compose("kd=ab", "kd.share=0.4").kd)
    weights = {
        done: [objective.weight(name, Batch(None, None, None, progress=done)) for name in ("hard", "ab")]
        for done in (0.0, 0.39, 0.4, 1.0)
    }
    assert weights == {0.0: [0, 0.003], 0.39: [0, 0.003], 0.4: [1, 0], 1.0: [1, 0]}


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_that_leaves_nothing_to_one_of_them_is_refused(share):
    from kd.build import build_objective

    with pytest.raises(ValueError, match="start < end"):
        build_objective(compose("kd=ab", f"kd.share={share}").kd)


def test_a_stack_of_students_takes_a_stack_of_margins():
    students, teacher = draw(3, 2, 4, 5, 5), draw(2, 4, 5, 5)
    margins = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    stacked = torch.func.vmap(boundary_loss, in_dims=(0, None, 0))(students, teacher, margins)
    one_by_one = [boundary_loss(s, teacher, m.item()) for s, m in zip(students, margins, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_maps_leave_value_and_gradient_finite(scale):
    student = (scale * torch.randn(2, 4, 4, 4)).requires_grad_()
    term = AB()
    term.setup(showing(student), showing(student.detach()))
    loss = term(showing(student), showing(student.detach()), None)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_wrong_settings_and_teachers_are_refused():
    with pytest.raises(ValueError, match="kd.margin must be above 0"):
        AB(margin=0)
    with pytest.raises(ValueError, match="maps of the teacher"):
        AB().setup(showing(draw(2, 3, 4, 4)), Outputs(torch.zeros(2, 6)))
    with pytest.raises(ValueError, match="kd.stages"):
        AB(stages=[-2]).setup(showing(draw(2, 3, 4, 4)), showing(draw(2, 3, 4, 4)))
