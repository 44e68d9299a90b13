"""OFD: the partial L2 distance agrees with the paper's cases, the margin with its definition; errors."""

from __future__ import annotations

import math

import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.ofd import OFD, Margin, partial_l2


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def showing(*maps: torch.Tensor) -> Outputs:
    return Outputs(torch.zeros(len(maps[0]), 6), None, maps)


def slow(student: torch.Tensor, teacher: torch.Tensor, margins: list[float]) -> float:
    """The paper's distance, number by number: d(max(t, m), s) = 0 if s <= max(t, m) <= 0, else squared."""
    total = 0.0
    for image_s, image_t in zip(student.tolist(), teacher.tolist(), strict=True):
        for margin, rows_s, rows_t in zip(margins, image_s, image_t, strict=True):
            for row_s, row_t in zip(rows_s, rows_t, strict=True):
                for s, t in zip(row_s, row_t, strict=True):
                    t = t if t > margin else margin
                    total += 0.0 if s <= t <= 0 else (s - t) ** 2
    return total / len(student)


@pytest.mark.parametrize("margins", [[-0.5, -0.1, -2.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("relu", [False, True])
def test_it_agrees_with_the_paper_number_by_number(margins, relu):
    student, teacher = draw(4, 3, 5, 4), draw(4, 3, 5, 4)
    teacher = teacher.relu() if relu else teacher
    margin = torch.tensor(margins, dtype=torch.float64).view(-1, 1, 1)
    assert partial_l2(student, teacher, margin).item() == pytest.approx(slow(student, teacher, margins), rel=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3.0, 2.0, 1.0),  # active: pulled down
        (-1.0, 2.0, 9.0),  # pulled up
        (1.0, -3.0, 4.0),  # silent below the margin of -1: pulled down to the margin
        (-2.0, -3.0, 0.0),  # no loss below it
        (0.5, -0.5, 1.0),  # silent above the margin: pulled down to the teacher
        (-0.7, -0.5, 0.0),  # no loss below
        (0.3, 0.0, 0.09),  # a ReLU's 0
        (-0.3, 0.0, 0.0),
    ],
)
def test_each_case_by_hand(student, teacher, expected):
    student, teacher = (torch.tensor([[[[value]]]], dtype=torch.float64) for value in (student, teacher))
    student.requires_grad_()
    loss = partial_l2(student, teacher, -1.0)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert (student.grad == 0).all() == (expected == 0)


def test_behind_a_relu_it_is_the_distance_of_rectified_maps_where_the_teacher_is_silent():
    student, teacher = draw(3, 4, 5, 5), draw(3, 4, 5, 5).relu()
    silent = ((student.relu() - teacher) ** 2) * (teacher == 0)
    active = ((student - teacher) ** 2) * (teacher > 0)
    torch.testing.assert_close(partial_l2(student, teacher), (silent + active).sum() / 3)


def test_the_batch_size_does_not_matter():
    student, teacher = draw(3, 4, 5, 5), draw(3, 4, 5, 5)
    twice = partial_l2(torch.cat([student] * 2), torch.cat([teacher] * 2), -0.3)
    torch.testing.assert_close(twice, partial_l2(student, teacher, -0.3))


def test_the_margin_is_the_mean_of_what_is_negative_in_all_that_was_seen():
    margin, seen = Margin(3), [draw(4, 3, 5, 5), draw(2, 3, 7, 7) - 1]
    for x in seen:
        x[:, 2].abs_()
        last = margin(x)
    values = [torch.cat([x[:, c].flatten() for x in seen]) for c in range(3)]
    expected = [v[v < 0].mean().item() for v in values[:2]] + [0.0]
    assert last.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert not last.requires_grad and last.shape == (3, 1, 1) and last.dtype == torch.float64


def test_the_margin_is_what_the_paper_takes_from_a_batch_norm():
    """After a batch norm, N(bias, weight^2), the margin is E[x | x < 0] = b - w phi(b / w) / Phi(-b / w)."""
    weight, bias = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.3, -0.2, 1.0])
    x = torch.randn(64, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * weight.view(1, 3, 1, 1)
    seen = Margin(3)(x + bias.view(1, 3, 1, 1))
    expected = []
    for w, b in zip(weight.tolist(), bias.tolist(), strict=True):
        density = math.exp(-((b / w) ** 2) / 2) / math.sqrt(2 * math.pi)
        expected.append(b - w * density / (0.5 * math.erfc(b / w / math.sqrt(2))))
    assert seen.flatten().tolist() == pytest.approx(expected, rel=0.02)


def test_the_margin_stays_in_evaluation_and_is_nothing_behind_a_relu():
    margin = Margin(2)
    first = margin(draw(3, 2, 4, 4)).clone()
    assert torch.equal(margin.eval()(draw(3, 2, 4, 4) - 3), first)
    assert torch.equal(Margin(2)(draw(3, 2, 4, 4).relu()), torch.zeros(2, 1, 1, dtype=torch.float64))


def test_stages_weigh_half_as_much_towards_the_image_and_sizes_are_made_equal():
    student = showing(draw(2, 3, 8, 8), draw(2, 3, 4, 4), draw(2, 3, 2, 2))
    teacher = showing(draw(2, 9, 9, 9), draw(2, 3, 4, 4), draw(2, 3, 4, 4), draw(2, 3, 4, 4))
    term = OFD()
    term.setup(student, teacher)
    term.connectors = torch.nn.ModuleList([torch.nn.Identity()] * 3)
    pool = torch.nn.functional.avg_pool2d
    own = [pool(student.features[0], 2), *student.features[1:]]
    given = [*teacher.features[1:3], pool(teacher.features[3], 2)]
    margins = [t[:, c][t[:, c] < 0].mean().item() for t in teacher.features[1:] for c in range(3)]
    expected = sum(
        slow(s, t, margins[3 * i : 3 * i + 3]) / 2 ** (2 - i) for i, (s, t) in enumerate(zip(own, given, strict=True))
    )
    assert term(student, teacher, None).item() == pytest.approx(expected, rel=1e-5)


def test_the_connector_is_a_1x1_convolution_and_a_norm_and_margins_are_kept_with_it():
    term = OFD(stages=[-1])
    term.setup(showing(draw(2, 3, 4, 4)), showing(draw(2, 5, 4, 4)))
    assert set(dict(term.named_buffers())) >= {"margins.0.mean", "margins.0.count"}
    (connector,) = term.connectors
    assert connector[0].weight.shape == (5, 3, 1, 1) and connector[0].bias is None


def test_a_stack_of_students_takes_a_stack_of_margins():
    students, teacher = draw(3, 2, 4, 5, 5), draw(2, 4, 5, 5)
    margins = torch.tensor([-1.0, -0.5, 0.0], dtype=torch.float64)
    stacked = torch.func.vmap(partial_l2, in_dims=(0, None, 0))(students, teacher, margins)
    one_by_one = [partial_l2(s, teacher, m.item()) for s, m in zip(students, margins, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_maps_leave_value_and_gradient_finite(scale):
    student = (scale * torch.randn(2, 4, 4, 4)).requires_grad_()
    teacher = scale * torch.randn(2, 4, 4, 4)
    term = OFD()
    term.setup(showing(student), showing(teacher))
    loss = term(showing(student), showing(teacher), None)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_teacher_without_maps_and_stages_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="maps of the teacher"):
        OFD().setup(showing(draw(2, 3, 4, 4)), Outputs(torch.zeros(2, 6)))
    with pytest.raises(ValueError, match="kd.stages"):
        OFD(stages=[-2]).setup(showing(draw(2, 3, 4, 4)), showing(draw(2, 3, 4, 4)))
