"""SKD: published values of the direction and of the sum, and the Mahalanobis norm by a plain inverse."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.skd import SKD, direction_loss
from kd.methods.supervised import CrossEntropy
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson


@entries("SKD_direction")
def test_the_direction_is_the_published_one(entry, dtype):
    settings = entry["settings"]

    def loss(student, teacher):
        divisor = student.shape[-1] if settings["gram_divisor"] == "C" else settings["gram_divisor"]
        return direction_loss(student, teacher, settings["lambda"], divisor)

    agrees(entry, dtype, loss)


@entries("SKD_total_as_coded")
def test_the_variant_code_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    objective = Objective(
        {"hard": CrossEntropy(), "skd": SKD(settings["T"], settings["lambda"], "code")},
        {"hard": settings["ce_weight"], "skd": settings["kd_weight"]},
    )
    agrees(entry, dtype, lambda z, t, y: objective(Outputs(z), Outputs(t), Batch(None, y, None))[0])


def test_it_is_the_mahalanobis_norm_of_the_rows_and_the_variant_paper_adds_it_whole():
    student, teacher, _ = lesson()
    own, given = (z / z.norm(dim=-1, keepdim=True) for z in (student, teacher))
    rows = own @ own.T - given @ given.T
    inverse = torch.linalg.inv(torch.cov(rows.T) + 0.2 * torch.eye(8, dtype=torch.float64))
    expected = sum((row @ inverse @ row).sqrt() for row in rows) / 8
    torch.testing.assert_close(direction_loss(student, teacher, 0.2), expected)
    whole = SKD(2.0, 0.2, "paper")(Outputs(student), Outputs(teacher), None)
    torch.testing.assert_close(whole, soft_label_kl(student, teacher, 2.0) + expected)


def test_scales_of_a_row_do_not_matter_and_shifts_do():
    student, teacher, _ = lesson()
    scale = torch.linspace(0.5, 2, 8, dtype=torch.float64)[:, None]
    here = direction_loss(student, teacher, 0.1).item()
    assert direction_loss(scale * student, teacher / scale, 0.1).item() == pytest.approx(here, rel=1e-12)
    assert direction_loss(student + 3, teacher, 0.1).item() != pytest.approx(here, rel=1e-2)
    assert direction_loss(scale * teacher, teacher, 0.1).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_agreement_zeros_and_far_logits_are_finite_in_float32(variant):
    far, sure = (array(name, torch.float32) for name in ("z_s_ext", "z_t_ext"))
    term = SKD(1.0, 1e-3, variant)
    for student, teacher in ((far, sure), (sure, sure), (0 * far, sure), (far, 0 * far), (far[:1].expand(8, -1), sure)):
        student = student.clone().requires_grad_()
        loss = term(Outputs(student), Outputs(teacher), None)
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()
        if variant == "paper":  # in float32 more images share a confidence of 1, and so the marks of code
            exact = term(Outputs(student.detach().double()), Outputs(teacher.double()), None)
            assert loss.item() == pytest.approx(exact.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_a_stack_of_students_learns_as_separate_students_do(variant):
    _, teacher, _ = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    numbers = torch.tensor([[1.0, 2, 4], [0.1, 0.01, 1]], dtype=torch.float64)

    def slope(student, temperature, ridge):
        term = SKD(temperature, ridge, variant)
        return torch.func.grad(lambda z: term(Outputs(z), Outputs(teacher), None))(student)

    stacked = torch.func.vmap(slope)(students, *numbers)
    one_by_one = [slope(student, *numbers[:, i].tolist()) for i, student in enumerate(students)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"ridge": 0.0}, {"variant": "both"}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=f"kd.{next(iter(settings))} must be"):
        SKD(**settings)


def test_a_batch_of_one_image_is_refused():
    with pytest.raises(ValueError, match="kd=skd compares the images of a batch"):
        SKD()(Outputs(torch.zeros(1, 6)), Outputs(torch.zeros(1, 6)), None)


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=skd", "kd.temperature=3", "kd.ridge=0.5", "kd.variant=paper", "kd.alpha=0.7").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None))[0]
    both = soft_label_kl(student, teacher, 3.0) + direction_loss(student, teacher, 0.5)
    torch.testing.assert_close(loss, 0.3 * torch.nn.functional.cross_entropy(student, target) + 0.7 * both)
