"""ICKD: value and gradient agree with both of the published scalings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.ickd import ICKD, channel_correlation_loss
from tests.methods.published import agrees, array, entries

VARIANTS = {"C*B": "cifar", "C*B^2": "imagenet"}


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def showing(*maps: torch.Tensor) -> Outputs:
    return Outputs(torch.zeros(len(maps[0]), 6), None, maps)


@entries("ICKD")
def test_correlations_are_the_published_ones(entry, dtype):
    variant = VARIANTS[entry["settings"]["divisor"]]
    agrees(entry, dtype, lambda student, teacher: channel_correlation_loss(student, teacher, variant))


def slow(student: np.ndarray, teacher: np.ndarray) -> float:
    """sum over images and rows of |g_s / |g_s| - g_t / |g_t||^2, over C B."""
    total, (count, channels) = 0.0, student.shape[:2]
    for b in range(count):
        for i in range(channels):
            rows = [np.array([(x[b, i] * x[b, j]).sum() for j in range(channels)]) for x in (student, teacher)]
            own, given = (row / np.linalg.norm(row) for row in rows)
            total += ((own - given) ** 2).sum()
    return total / (channels * count)


def test_it_agrees_with_loops_also_where_the_sizes_differ():
    student, teacher = draw(3, 4, 5, 5), draw(3, 4, 2, 7)
    value = channel_correlation_loss(student, teacher)
    assert value.item() == pytest.approx(slow(student.numpy(), teacher.numpy()), rel=1e-12)


@pytest.mark.parametrize(("variant", "ratio"), [("cifar", 1.0), ("imagenet", 0.5)])
def test_a_batch_twice_as_large(variant, ratio):
    student, teacher = array("f_s_a"), array("f_t_a")
    once = channel_correlation_loss(student, teacher, variant)
    twice = channel_correlation_loss(torch.cat([student] * 2), torch.cat([teacher] * 2), variant)
    assert (twice / once).item() == pytest.approx(ratio, rel=1e-9)


def test_the_order_of_places_and_the_size_of_each_image_do_not_matter():
    student, teacher = array("f_s_a"), array("f_t_a")
    order = torch.randperm(64)
    moved = student.flatten(2)[..., order].view_as(student)
    scaled = moved * torch.linspace(0.5, 3, len(student), dtype=torch.float64).view(-1, 1, 1, 1)
    expected = channel_correlation_loss(student, teacher).item()
    assert channel_correlation_loss(scaled, teacher).item() == pytest.approx(expected, abs=1e-14)


def test_the_order_of_channels_matters_unless_it_is_changed_in_both():
    student, teacher = array("f_s_a"), array("f_t_a")
    order = torch.arange(16).roll(1)
    expected = channel_correlation_loss(student, teacher).item()
    assert channel_correlation_loss(student[:, order], teacher).item() != pytest.approx(expected, rel=1e-3)
    both = channel_correlation_loss(student[:, order], teacher[:, order]).item()
    assert both == pytest.approx(expected, rel=1e-12)


def test_equal_maps_have_no_distance():
    teacher = array("f_t_a")
    assert channel_correlation_loss(teacher * 2, teacher).item() == pytest.approx(0, abs=1e-25)
    few = draw(4, 16, 3, 3)
    assert channel_correlation_loss(few * 2, few).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("zeros", [False, True])
def test_few_places_are_computed_otherwise_and_come_to_the_same(zeros):
    """Repeated places scale every inner product by one factor, which normalised rows do not see."""
    student, teacher = draw(3, 7, 2, 3), draw(3, 7, 2, 2)
    if zeros:
        student[:, 2], teacher[:, 4] = 0, 0
    many = [torch.cat([x] * 3, -1).requires_grad_() for x in (student, teacher)]
    few = [x.requires_grad_() for x in (student, teacher)]
    losses = [channel_correlation_loss(*maps) for maps in (few, many)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    for loss in losses:
        loss.backward()
    folded = many[0].grad.unflatten(-1, (3, -1)).sum(-2)
    torch.testing.assert_close(few[0].grad, folded, rtol=1e-9, atol=1e-12)


def test_opposite_channels_by_hand():
    """Rows (1, 1) / sqrt 2 and (1, -1) / sqrt 2, twice: 2 + 2 over 2 channels."""
    student = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    teacher = student * torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1)
    assert channel_correlation_loss(student, teacher).item() == pytest.approx(2.0, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", ["one channel of zeros", "all zeros", "equal", "large"])
@pytest.mark.parametrize("side", [8, 3])  # more places than channels, and fewer
def test_extreme_maps_leave_value_and_gradient_finite(which, dtype, side):
    student, teacher = (array(name, dtype)[..., :side, :side].clone() for name in ("f_s_a", "f_t_a"))
    if which == "one channel of zeros":
        student[:, 3] = 0
    elif which == "all zeros":
        student.zero_()
    elif which == "equal":
        student = teacher.clone()
    else:
        student *= 1e4
    student.requires_grad_()
    loss = channel_correlation_loss(student, teacher)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert student.grad.abs().max() < 10  # in published code up to 1e12 where a channel is 0


def test_a_stack_of_students_runs_under_vmap():
    students, teacher = draw(3, 2, 4, 5, 5), draw(2, 4, 5, 5)
    stacked = torch.func.vmap(channel_correlation_loss, in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(stacked, torch.stack([channel_correlation_loss(s, teacher) for s in students]))


def test_the_term_sums_over_stages_behind_its_connectors():
    student, teacher = showing(draw(4, 3, 8, 8), draw(4, 5, 4, 4)), showing(draw(4, 6, 8, 8), draw(4, 5, 2, 2))
    term = ICKD(stages=None, variant="imagenet")
    term.setup(student, teacher)
    term.double()
    assert [connector[0].weight.shape for connector in term.connectors] == [(6, 3, 1, 1), (5, 5, 1, 1)]
    expected = sum(
        channel_correlation_loss(connector(s), t, "imagenet")
        for connector, s, t in zip(term.connectors, student.features, teacher.features, strict=True)
    )
    torch.testing.assert_close(term(student, teacher, None), expected)
    last = ICKD()
    last.setup(student, teacher)
    assert len(last.connectors) == 1


def test_wrong_settings_and_teachers_are_refused():
    with pytest.raises(ValueError, match="kd.variant must be cifar or imagenet"):
        ICKD(variant="mean")
    with pytest.raises(ValueError, match="maps of the teacher"):
        ICKD().setup(showing(draw(2, 3, 4, 4)), Outputs(torch.zeros(2, 6)))
