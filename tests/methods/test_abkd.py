"""ABKD: published values, its corners, and agreement with the formula as it is written."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.abkd import ABKD, alpha_beta_divergence
from kd.methods.hinton import soft_label_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson

CORNERS = [(0.8, 0.3), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.7, 0.0), (0.0, 0.6), (0.5, -0.5), (1.2, -0.2), (1.0, 1.0)]


@entries("ABKD")
def test_abkd_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    term = ABKD(settings["T"], settings["alpha"], settings["beta"])
    agrees(entry, dtype, lambda z, t: term(Outputs(z), Outputs(t), None))


def test_its_corners_are_both_kl_divergences_and_the_squared_distance():
    student, teacher, _ = lesson()
    forward = alpha_beta_divergence(student, teacher, 2.0, 1.0, 0.0)
    reverse = alpha_beta_divergence(student, teacher, 2.0, 0.0, 1.0)
    assert 4 * forward.item() == pytest.approx(soft_label_kl(student, teacher, 2.0).item(), rel=1e-12)
    assert 4 * reverse.item() == pytest.approx(soft_label_kl(teacher, student, 2.0).item(), rel=1e-12)
    apart = (student / 2).softmax(-1) - (teacher / 2).softmax(-1)
    assert alpha_beta_divergence(student, teacher, 2.0, 1, 1).item() == pytest.approx(
        apart.square().sum(-1).mean().item() / 2, rel=1e-12
    )


@pytest.mark.parametrize(("alpha", "beta"), CORNERS)
def test_corners_are_limits_in_value_and_gradient(alpha, beta):
    student, teacher, _ = lesson()
    student.requires_grad_()
    here = alpha_beta_divergence(student, teacher, 3.0, alpha, beta)
    beside = alpha_beta_divergence(student, teacher, 3.0, alpha + 1e-6, beta + 2e-6)
    assert here.item() == pytest.approx(beside.item(), rel=3e-5)
    slopes = [torch.autograd.grad(loss, student)[0] for loss in (here, beside)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("alpha", "beta"), CORNERS)
def test_shifts_and_batches_do_not_matter_and_agreement_is_zero(alpha, beta):
    student, teacher, _ = lesson()
    here = alpha_beta_divergence(student, teacher, 2.0, alpha, beta).item()
    assert here > 0
    shift = torch.linspace(-20, 20, len(student), dtype=torch.float64)[:, None]
    others = [
        (student + shift, teacher - 2 * shift, 2.0),
        (torch.cat([student] * 2), torch.cat([teacher] * 2), 2.0),
        (2 * student, 2 * teacher, 4.0),  # no T^2
    ]
    for given in others:
        assert alpha_beta_divergence(*given, alpha, beta).item() == pytest.approx(here, rel=1e-10)
    assert alpha_beta_divergence(teacher, teacher + shift, 2.0, alpha, beta).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), CORNERS)
@pytest.mark.parametrize("temperature", [1.0, 4.0, 1e4])
def test_float32_is_finite_far_apart_and_precise_close_together(alpha, beta, temperature):
    far, sure = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    for student in (far, sure + 0.01 * far.sin(), torch.zeros_like(far), sure):
        student = student.clone().requires_grad_()
        loss = alpha_beta_divergence(student, sure, temperature, alpha, beta)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all() and loss >= 0
        exact = alpha_beta_divergence(student.detach().double(), sure.double(), temperature, alpha, beta)
        assert loss.item() == pytest.approx(exact.item(), rel=2e-4, abs=1e-14)


def test_a_stack_of_students_learns_as_separate_students_do():
    _, teacher, _ = lesson()
    students = torch.randn(4, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 2, 4, 4], [0.8, 1, 0, 0], [0.3, 0, 1, 0]], dtype=torch.float64)

    def slope(student, *settings):
        return torch.func.grad(lambda z: ABKD(*settings)(Outputs(z), Outputs(teacher), None))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0}, "kd.temperature"),
        ({"alpha": float("inf")}, "kd.alpha"),
        ({"beta": float("nan")}, "kd.beta"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        ABKD(**settings)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=abkd", "kd.temperature=3", "kd.alpha=0.5", "kd.beta=0.2", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * alpha_beta_divergence(student, teacher, 3.0, 0.5, 0.2))
