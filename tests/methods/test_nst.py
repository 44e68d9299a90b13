"""Neuron selectivity transfer: published values, both orders of the sum, invariances."""

from __future__ import annotations

import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.nst import NeuronSelectivityTransfer, mean_kernel, selectivity_discrepancy
from tests.methods.published import agrees, array, entries


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


@entries("NST")
def test_one_pair_of_maps_is_the_published_one(entry, dtype):
    method = NeuronSelectivityTransfer(stages=[-1])
    agrees(entry, dtype, lambda student, teacher: method(shown(student), shown(teacher), None))


@pytest.mark.parametrize(("ours", "theirs", "places"), [(2, 3, 5), (4, 3, 2), (1, 1, 4), (6, 6, 1)])
def test_both_orders_of_the_sum_are_the_mean_of_the_kernel(ours, theirs, places):
    """With few channels the sum uses the matrix of channels, with few places that of places."""
    u = torch.randn(2, ours, places, dtype=torch.float64)
    v = torch.randn(2, theirs, places, dtype=torch.float64)
    expected = [
        sum(torch.dot(u[b, i], v[b, j]).item() ** 2 for i in range(ours) for j in range(theirs)) / (ours * theirs)
        for b in range(2)
    ]
    assert mean_kernel(u, v).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("channels", "places"), [(64, 4), (4, 64)])
def test_no_table_is_larger_than_the_maps_when_one_side_is_short(channels, places):
    u, v = torch.randn(2, 1, channels, places, requires_grad=True).unbind()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        mean_kernel(u, v)
    assert kept and max(kept) <= channels * places


def test_a_case_by_hand():
    """One channel of the student, to the right; two of the teacher, to the left and to both sides."""
    student = torch.tensor([[[[2.0, 0.0]]]])
    teacher = torch.tensor([[[[0.0, 3.0]], [[5.0, 5.0]]]])
    own, theirs, between = 1.0, (1 + 1 + 2 * 0.5) / 4, (0 + 0.5) / 2
    assert selectivity_discrepancy(student, teacher).item() == pytest.approx(own + theirs - 2 * between, rel=1e-6)


def test_batch_duplication_changes_nothing():
    student, teacher = array("f_s_a"), array("f_t_a")
    once = selectivity_discrepancy(student, teacher).item()
    twice = selectivity_discrepancy(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1)).item()
    assert twice == pytest.approx(once, rel=1e-12)


def test_order_scale_and_sign_of_channels_do_not_matter():
    student, teacher = array("f_s_c"), array("f_t_a")
    expected = selectivity_discrepancy(student, teacher).item()
    scale = torch.linspace(-3.1, 2, 8 * 12, dtype=torch.float64).view(8, 12, 1, 1)
    for other in (student[:, torch.randperm(12)], scale * student):
        assert selectivity_discrepancy(other, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_it_is_zero_for_the_teacher_with_channels_permuted_and_rescaled():
    teacher = array("f_t_a")
    student = 7 * teacher[:, torch.randperm(16)]
    assert selectivity_discrepancy(student, teacher).item() == pytest.approx(0, abs=1e-14)


def test_it_is_never_negative_and_any_channel_counts_compare():
    for channels in (1, 5, 40):
        student = torch.randn(3, channels, 4, 4, dtype=torch.float64)
        assert selectivity_discrepancy(student, torch.randn(3, 7, 6, 6, dtype=torch.float64)) > -1e-15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sides", [2, 8])
def test_a_channel_or_a_sample_of_zeros_has_no_gradient(dtype, sides):
    student, teacher = torch.randn(2, 4, 6, sides, sides, dtype=dtype).unbind()
    student[1, 2], student[3] = 0, 0
    student.requires_grad_()
    value = selectivity_discrepancy(student, teacher)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    assert not student.grad[1, 2].any() and not student.grad[3].any() and student.grad[0].any()


def test_stages_add_up_and_maps_of_a_single_place_are_left_out():
    student = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2), torch.randn(2, 3, 1, 1)
    teacher = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 2, 2), torch.randn(2, 5, 1, 1)
    method = NeuronSelectivityTransfer()
    with pytest.warns(UserWarning, match="kd=nst leaves 1 of 3 pairs of maps out"):
        method.setup(shown(*student), shown(*teacher))
    expected = sum(selectivity_discrepancy(*pair) for pair in zip(student[:2], teacher[:2], strict=True))
    torch.testing.assert_close(method(shown(*student), shown(*teacher), None), expected)
    with pytest.raises(ValueError, match="kd=nst compares where"):
        NeuronSelectivityTransfer(stages=[-1]).setup(shown(*student), shown(*teacher))


@pytest.mark.parametrize("side", [2, 6])
def test_a_stack_of_students_learns_as_separate_students_do(side):
    students, teacher = torch.randn(3, 4, 5, side, side).double(), torch.randn(4, 7, side, side).double()
    stacked = torch.func.vmap(selectivity_discrepancy, in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(stacked, torch.stack([selectivity_discrepancy(s, teacher) for s in students]))
