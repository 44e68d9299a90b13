"""LDRLD: published values, the formula in loops, few classes, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.ldrld import LDRLD, local_relations
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries


def called(term, student, teacher):
    return term(Outputs(student), Outputs(teacher), None)


def lesson(classes: int = 9, count: int = 8):
    torch.manual_seed(0)
    return 3 * torch.randn(2, count, classes, dtype=torch.float64)


@entries("LDRLD")
def test_ldrld_is_the_published_one(entry, dtype):
    s = entry["settings"]
    term = LDRLD(s["T"], s["k"], s["alpha"], s["beta"], s["decay"])
    agrees(entry, dtype, lambda *given: called(term, *given))


@pytest.mark.parametrize("top", [2, 3, 5])
def test_it_is_what_loops_make_of_the_formula(top):
    student, teacher = lesson()
    local, rest = 0.0, 0.0
    for z_s, z_t in zip(student, teacher, strict=True):
        order = sorted(range(9), key=lambda k: -z_s[k].item())

        def apart(ranks, z_s=z_s, z_t=z_t, order=order):
            places = [order[rank - 1] for rank in ranks]
            return soft_label_kl(z_s[None, places], z_t[None, places], 2.0).item() / 8

        pairs = [(i, j) for i in range(1, top + 1) for j in range(i + 1, top + 1)]
        weights = {pair: 2 * math.exp(-0.1 * sum(pair)) / (1.5 + pair[1] - pair[0]) for pair in pairs}
        sums = sum(weights[pair] * apart(pair) for pair in pairs)
        sums += apart(range(1, top + 1)) * (weights[1, 2] if top == 2 else 1)
        local += sums / (len(pairs) + 1)
        rest += apart(range(top + 1, 10))
    found = local_relations(student, teacher, top, 2.0, 0.1)
    assert [part.item() for part in found] == pytest.approx([local, rest], rel=1e-11)


def test_shift_scale_zero_and_a_doubled_batch():
    student, teacher = lesson()
    shift = torch.linspace(-20, 20, len(student), dtype=torch.float64)[:, None]
    here = called(LDRLD(), student, teacher).item()
    assert called(LDRLD(), student + shift, teacher - 2 * shift).item() == pytest.approx(here, rel=1e-10)
    assert called(LDRLD(8.0), 2 * student, 2 * teacher).item() == pytest.approx(4 * here)
    assert called(LDRLD(), teacher + shift, teacher).item() == pytest.approx(0, abs=1e-13)
    assert called(LDRLD(), student.repeat(2, 1), teacher.repeat(2, 1)).item() == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 7, 8])
def test_with_few_classes_all_are_compared_and_there_is_no_rest(classes):
    student, teacher = lesson(classes)
    local, rest = local_relations(student.requires_grad_(), teacher, 7, 4.0)
    (slope,) = torch.autograd.grad(local + rest, student)
    assert local > 0 and rest.item() == 0 and slope.abs().sum() > 0
    with pytest.raises(ValueError, match=r"kd.local=0 .* with . classes"):
        LDRLD(local=0).setup(Outputs(student), Outputs(teacher))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_far_logits_stay_finite_and_right_in_float32(temperature):
    student, teacher = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    term = LDRLD(temperature, top=3)
    for apart in (student, 60 - 120 * torch.eye(6)[array("y_ext")], torch.zeros_like(student), teacher):
        exact = called(term, apart.double(), teacher.double()).item()
        apart = apart.clone().requires_grad_()
        loss = called(term, apart, teacher)
        loss.backward()
        assert apart.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 3.0, 4.0], [1.0, 0.0, 2.0], [7.0, 1.0, 0.0], [0.0, 0.05, 0.1]], dtype=torch.float64)

    def slope(student, temperature, local, rest, decay):
        term = LDRLD(temperature, 3, local, rest, decay)
        return torch.func.grad(lambda z: called(term, z, teacher))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0}, "kd.temperature"),
        ({"top": 1}, "kd.top .* 2 or more"),
        ({"top": 2.5}, "kd.top .* whole number"),
        ({"local": -1}, "kd.local"),
        ({"rest": -1}, "kd.rest"),
        ({"decay": -0.1}, "kd.decay"),
        ({"local": 0, "rest": 0}, "both 0"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        LDRLD(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    own = {"temperature": 3, "top": 4, "local": 5, "rest": 6, "decay": 0.1, "hard": 0.5, "weight": 4}
    kd = compose("kd=ldrld", *(f"kd.{name}={value}" for name, value in own.items())).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher = lesson()
    target = torch.arange(8)
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    local, rest = local_relations(student, teacher, 4, 3.0, 0.1)
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * (5 * local + 6 * rest))
