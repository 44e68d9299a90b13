"""Attention transfer: published values, invariances, and maps without attention."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.at import AttentionTransfer, attention_map, attention_transfer
from tests.methods.published import agrees, array, entries

VARIANTS = ("code", "paper")


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


@entries("AT_code", "AT_paper")
def test_one_pair_of_maps_is_the_published_one(entry, dtype):
    variant, p = entry["method"].removeprefix("AT_"), entry["settings"]["p"]
    method = AttentionTransfer(variant, p, stages=[-1])
    agrees(entry, dtype, lambda student, teacher: method(shown(student), shown(teacher), None))


@entries("AT_code_multi")
def test_the_sum_over_stages_is_the_published_one(entry, dtype):
    method = AttentionTransfer("code", entry["settings"]["p"])

    def loss(student_a, teacher_a, student_b, teacher_b):
        return method(shown(student_a, student_b), shown(teacher_a, teacher_b), None)

    agrees(entry, dtype, loss)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_it_is_what_loops_make_of_the_formula(variant, p):
    """An odd p depends on the size of an activation, not on its sign."""
    student, teacher = torch.randn(2, 3, 5, 2, 2, dtype=torch.float64).unbind()
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        maps = []
        for x in (ours, theirs):
            places = [sum(abs(c[i][j]) ** p for c in x) / len(x) for i in range(2) for j in range(2)]
            maps.append([place / math.sqrt(sum(other**2 for other in places)) for place in places])
        squares = sum((a - b) ** 2 for a, b in zip(*maps, strict=True))
        total += squares / 4 / 3 if variant == "code" else math.sqrt(squares) / 3
    assert attention_transfer(student, teacher, p, variant).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_duplication_changes_nothing(variant):
    student, teacher = array("f_s_a"), array("f_t_a")
    once = attention_transfer(student, teacher, variant=variant)
    twice = attention_transfer(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1), variant=variant)
    assert twice.item() == pytest.approx(once.item(), rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_and_number_of_channels_scale_and_sign_do_not_matter(variant):
    student, teacher = array("f_s_a"), array("f_t_a")
    expected = attention_transfer(student, teacher, variant=variant).item()
    scale = torch.linspace(-3, 3, 8, dtype=torch.float64).view(8, 1, 1, 1)
    for other in (student[:, torch.randperm(16)], scale * student, student.repeat(1, 2, 1, 1)):
        assert attention_transfer(other, teacher, variant=variant).item() == pytest.approx(expected, rel=1e-12)


def test_code_and_paper_are_the_square_and_the_root_of_the_same_distances():
    student, teacher = array("f_s_a"), array("f_t_a")
    alone = [attention_transfer(student[i : i + 1], teacher[i : i + 1], variant="paper") for i in range(8)]
    expected = sum(distance.square() for distance in alone)
    torch.testing.assert_close(8 * 8 * 8 * attention_transfer(student, teacher), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", ["zero sample", "equal", "both zero"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_stay_finite(variant, case, dtype):
    student, teacher = array("f_s_a", dtype).clone(), array("f_t_a", dtype).clone()
    if case != "equal":
        student[0] = 0
    if case == "both zero":
        teacher[0] = 0
    if case == "equal":
        teacher = student.clone()
    student.requires_grad_()
    value = attention_transfer(student, teacher, variant=variant)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    if case == "equal":
        assert value == 0 and not student.grad.any()
    else:
        assert not student.grad[0].any()


def test_a_pair_of_maps_of_a_single_place_is_left_out_and_said():
    student = torch.randn(4, 3, 6, 6), torch.randn(4, 3, 2, 2)
    teacher = torch.randn(4, 5, 3, 3), torch.randn(4, 5, 1, 1)
    method = AttentionTransfer()
    with pytest.warns(UserWarning, match="kd=at leaves 1 of 2 pairs of maps out"):
        method.setup(shown(*student), shown(*teacher))
    expected = attention_transfer(student[0], teacher[0])
    torch.testing.assert_close(method(shown(*student), shown(*teacher), None), expected)
    with pytest.raises(ValueError, match="kd=at compares where .* single place: use shallower kd.stages"):
        AttentionTransfer(stages=[-1]).setup(shown(*student), shown(*teacher))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AttentionTransfer(stages=[-2]).setup(shown(*student), shown(*teacher))


def test_a_row_of_places_is_not_a_single_place():
    student, teacher = torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)
    AttentionTransfer().setup(shown(student), shown(teacher))
    assert attention_map(student).shape == (2, 4)
    assert AttentionTransfer()(shown(student), shown(teacher), None) > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stack_of_students_learns_as_separate_students_do(variant):
    students, teacher = torch.randn(3, 4, 2, 6, 6).double(), torch.randn(4, 5, 3, 3).double()
    powers = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    stacked = torch.func.vmap(attention_transfer, in_dims=(0, None, 0, None))(students, teacher, powers, variant)
    one_by_one = [attention_transfer(s, teacher, p.item(), variant) for s, p in zip(students, powers, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"variant": "sum"}, "kd.variant must be one of code, paper, got 'sum'"), ({"p": 0.5}, "kd.p must be at least 1")],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AttentionTransfer(**settings)
