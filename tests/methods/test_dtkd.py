"""DTKD: published values, what its temperatures are, and largest logits of 0 or less."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dtkd import DTKD, dynamic_kl, dynamic_temperatures
from kd.methods.hinton import soft_label_kl
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, pair_of_logits


def called(term, student, teacher):
    return term(Outputs(student), Outputs(teacher), None)


@entries("DTKD_total")
def test_the_sum_is_the_published_one(entry, dtype):
    s = entry["settings"]
    objective = Objective(
        {"hard": CrossEntropy(), "dtkd": DTKD(s["T"], s["alpha"], s["beta"])},
        {"hard": s["ce_weight"], "dtkd": 1.0},
        {"dtkd": {"rise": s["warmup"] / 240}},
    )

    def loss(student, teacher, target):
        batch = Batch(None, target, None, progress=s["epoch"] / 240)
        return objective(Outputs(student), Outputs(teacher), batch)[0]

    agrees(entry, dtype, loss)


def test_the_temperatures_have_the_mean_t_and_bring_the_logits_to_one_maximum():
    student, teacher = pair_of_logits()
    own, given = dynamic_temperatures(student, teacher, 4.0)
    torch.testing.assert_close(own + given, torch.full_like(own, 8.0))
    highest = (student.amax(-1) + teacher.amax(-1)) / 8
    torch.testing.assert_close((student / own).amax(-1), highest)
    torch.testing.assert_close((teacher / given).amax(-1), highest)


def test_where_the_maxima_are_equal_it_is_the_plain_term():
    student, teacher = pair_of_logits()
    student = student * teacher.amax(-1, keepdim=True) / student.amax(-1, keepdim=True)
    assert dynamic_kl(student, teacher, 3.0).item() == pytest.approx(soft_label_kl(student, teacher, 3.0).item())


def test_scale_zero_a_doubled_batch_and_no_invariance_to_a_shift():
    student, teacher = pair_of_logits()
    here = called(DTKD(), student, teacher).item()
    assert called(DTKD(8.0), 2 * student, 2 * teacher).item() == pytest.approx(4 * here)
    assert called(DTKD(), teacher, teacher).item() == pytest.approx(0, abs=1e-14)
    assert called(DTKD(), student.repeat(2, 1), teacher.repeat(2, 1)).item() == pytest.approx(here, rel=1e-12)
    assert abs(called(DTKD(), student + 5, teacher).item() - here) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_and_largest_logits_of_zero_or_less_are_finite_and_right(temperature, dtype):
    far, sure = (array(name, dtype) for name in ("z_s_ext", "z_t_ext"))
    below, two = sure - 61, (array("z_s_c2", dtype), array("z_t_c2", dtype))
    pairs = (
        (far, sure),
        (sure, sure),
        (below, sure),
        (far, below),
        (below, below),
        (0 * far, sure),
        (0 * far, 0 * far),
        two,
    )
    for student, teacher in pairs:
        own, given = dynamic_temperatures(student, teacher, temperature)
        assert (own > 0).all() and (given > 0).all()
        exact = called(DTKD(temperature), student.double(), teacher.double()).item()
        student = student.clone().requires_grad_()
        loss = called(DTKD(temperature), student, teacher)
        loss.backward()
        assert student.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5, abs=1e-6)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher = pair_of_logits()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 3.0, 4.0], [1.0, 0.0, 3.0], [1.0, 2.0, 0.0]], dtype=torch.float64)

    def slope(student, *numbers):
        return torch.func.grad(lambda z: called(DTKD(*numbers), z, teacher))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0}, "kd.temperature"),
        ({"dynamic": -1}, "kd.dynamic"),
        ({"fixed": -1}, "kd.fixed"),
        ({"dynamic": 0, "fixed": 0}, "both 0"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        DTKD(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    own = {"temperature": 3, "dynamic": 5, "fixed": 6, "hard": 0.5, "weight": 4, "warmup": 0.1}
    kd = compose("kd=dtkd", *(f"kd.{name}={value}" for name, value in own.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.schedule)
    student, teacher = pair_of_logits()
    target = torch.arange(8) % 6
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=0.05))[0]
    both = 5 * dynamic_kl(student, teacher, 3.0) + 6 * soft_label_kl(student, teacher, 3.0)
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * 0.5 * both)
