"""ITRD: published values, what does not matter to it, and numbers that are constant over a batch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.itrd import ITRD, correlation_loss, mutual_loss
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def through(term, student, teacher):
    return term(Outputs(None, student), Outputs(None, teacher), None)


@entries("ITRD_correlation")
def test_the_correlation_is_the_published_one(entry, dtype):
    order = entry["settings"]["alpha"]
    agrees(entry, dtype, lambda own, given, w, b: correlation_loss(F.linear(own, w, b), given, order))


@entries("ITRD_mutual")
def test_the_mutual_loss_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda own, given, *layer: mutual_loss(F.linear(own, *layer) if layer else own, given))


def test_the_module_shares_its_layer_and_leaves_it_out_of_the_mutual_loss_at_equal_widths():
    for own, given in ((array("e_s"), array("e_t")), (array("e_s_b"), array("e_t_b"))):
        term = ITRD(3.0, 0.5, 2.0)
        term.setup(Outputs(None, own), Outputs(None, given))
        term.double()
        mapped = term.embed(own)
        mutual = mutual_loss(own if own.shape == given.shape else mapped, given)
        torch.testing.assert_close(through(term, own, given), 3 * correlation_loss(mapped, given, 2.0) + 0.5 * mutual)


def test_the_correlation_is_torchs_and_scales_and_shifts_do_not_matter():
    student, teacher = array("e_t").flip(0), array("e_t")
    count, width = teacher.shape
    found = torch.stack([torch.corrcoef(torch.stack([student[:, d], teacher[:, d]]))[0, 1] for d in range(width)])
    expected = ((found * (count - 1) / count - 1).abs() ** 3).sum().log2().item()
    assert correlation_loss(student, teacher, 1.5).item() == pytest.approx(expected, rel=1e-12)
    scale = torch.linspace(0.5, 3, width, dtype=torch.float64)
    moved = correlation_loss(student * scale - 4, teacher / scale + scale, 1.5)
    assert moved.item() == pytest.approx(expected, rel=1e-10)
    match = math.log2(width) - 3 * math.log2(count)  # |c - 1| = 1 / B in each column
    assert correlation_loss(2 * teacher + 1, teacher, 1.5).item() == pytest.approx(match, rel=1e-10)


def test_lengths_do_not_matter_to_the_mutual_loss_and_it_is_0_where_the_teacher_finds_all_alike():
    student, teacher = array("e_s"), array("e_t")
    here = mutual_loss(student, teacher).item()
    lengths = torch.linspace(0.5, 3, len(student), dtype=torch.float64)[:, None]
    assert mutual_loss(student * lengths, teacher / lengths).item() == pytest.approx(here, rel=1e-12)
    assert mutual_loss(student, teacher[:1].expand_as(teacher)).item() == pytest.approx(0, abs=1e-14)
    eye = torch.eye(4, dtype=torch.float64)
    assert mutual_loss(torch.ones_like(eye), eye).item() == pytest.approx(1 - 1 / 4)


def test_a_batch_twice_changes_the_correlation_hardly_and_the_mutual_loss_not():
    student, teacher = array("e_t").flip(0), array("e_t")
    once, twice = (
        correlation_loss(s, t, 1.5).item()
        for s, t in ((student, teacher), (student.repeat(2, 1), teacher.repeat(2, 1)))
    )
    assert 0 < abs(once - twice) < 3 / len(student)
    assert mutual_loss(student.repeat(2, 1), teacher.repeat(2, 1)).item() == pytest.approx(
        mutual_loss(student, teacher).item(), rel=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["constant", "alike", "zeros", "a row of zeros", "dead teacher", "huge", "equal"])
def test_value_and_gradient_are_finite(case, dtype):
    student, teacher = array("e_t", dtype).flip(0).clone(), array("e_t", dtype).clone()
    if case == "constant":
        student[:, 1] = 0.1
    elif case == "alike":
        student[:] = student[0]
    elif case == "zeros":
        student[:] = 0
        teacher[:] = 0
    elif case == "a row of zeros":
        student[2] = 0
    elif case == "dead teacher":
        teacher[:, :3] = 0
    elif case == "huge":
        student *= 1e6
    elif case == "equal":
        student = teacher.clone()
    student.requires_grad_()
    loss = correlation_loss(student, teacher, 1.5) + mutual_loss(student, teacher)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all() and student.grad.abs().max() < 1e3
    if case == "constant":
        torch.testing.assert_close(
            torch.autograd.grad(correlation_loss(student, teacher, 1.5), student)[0][:, 1], 0 * student[:, 1]
        )


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 6, 9, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    orders = torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64)

    def loss(student, order):
        return correlation_loss(student, teacher, order) + mutual_loss(student, teacher)

    stacked = torch.func.vmap(torch.func.grad(loss))(students, orders)
    separate = [torch.func.grad(loss)(s, order.item()) for s, order in zip(students, orders, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(separate))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"correlation": -1}, "kd.correlation"),
        ({"mutual": -1}, "kd.mutual"),
        ({"correlation": 0, "mutual": 0}, "both 0"),
        ({"order": 0}, "kd.order"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        ITRD(**settings)


def test_one_image_is_refused():
    one = Outputs(None, torch.ones(1, 4))
    term = ITRD()
    term.setup(one, one)
    with pytest.raises(ValueError, match="kd=itrd compares the images of a batch"):
        term(one, one, None)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=itrd", "kd.correlation=2", "kd.mutual=3", "kd.order=1.25", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    own, given = (Outputs(torch.zeros(8, 6), array(name)) for name in ("e_s", "e_t"))
    objective.setup(own, given)
    term = objective.terms["itrd"].double()
    loss = objective(own, given, Batch(None, torch.zeros(8, dtype=torch.int64), None))[0]
    mapped = term.embed(own.embedding)
    both = 2 * correlation_loss(mapped, given.embedding, 1.25) + 3 * mutual_loss(mapped, given.embedding)
    torch.testing.assert_close(loss, 0.5 * math.log(6) + 4 * both, check_dtype=False)
