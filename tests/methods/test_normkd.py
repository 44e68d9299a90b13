"""NormKD and its DKD form: published values, scale and shift, and rows without a spread."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import decoupled_kl
from kd.methods.hinton import soft_label_kl
from kd.methods.normkd import NormDKD, NormKD, normalized_decoupled_kl, normalized_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, lesson

KINDS = (NormKD, NormDKD)


def called(term, student, teacher, target=None):
    return term(Outputs(student), Outputs(teacher), Batch(None, target, None))


@entries("NormKD")
def test_normkd_is_the_published_one(entry, dtype):
    agrees(entry, dtype, lambda *given: called(NormKD(entry["settings"]["T_norm"]), *given))


@entries("NormKD_DKD")
def test_the_form_with_dkd_is_the_published_one(entry, dtype):
    settings = entry["settings"]
    term = NormDKD(settings["T_norm"], settings["alpha"], settings["beta"])
    agrees(entry, dtype, lambda *given: called(term, *given))


def test_where_all_deviations_are_alike_it_is_the_plain_term_at_that_temperature():
    student, teacher, target = lesson()
    student, teacher = (1.5 * z / z.std(-1, keepdim=True) for z in (student, teacher))
    assert normalized_kl(student, teacher, 2.0).item() == pytest.approx(soft_label_kl(student, teacher, 3.0).item())
    found = normalized_decoupled_kl(student, teacher, target, 2.0)
    torch.testing.assert_close(found, decoupled_kl(student, teacher, target, 3.0))


@pytest.mark.parametrize("kind", KINDS)
def test_shift_scale_zero_and_a_doubled_batch(kind):
    student, teacher, target = lesson()
    shift = torch.linspace(-20, 20, len(target), dtype=torch.float64)[:, None]
    here = called(kind(), student, teacher, target).item()
    assert called(kind(), student + shift, teacher - 2 * shift, target).item() == pytest.approx(here, rel=1e-10)
    assert called(kind(), 2 * student, 2 * teacher, target).item() == pytest.approx(4 * here)
    assert called(kind(), 3 * student, teacher, target).item() == pytest.approx(here), "a spread of the student's own"
    assert called(kind(), teacher, teacher, target).item() == pytest.approx(0, abs=1e-14)
    twice = called(kind(), student.repeat(2, 1), teacher.repeat(2, 1), target.repeat(2)).item()
    assert twice == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_far_logits_and_rows_without_a_spread_are_finite_and_right(kind, temperature, dtype):
    far, sure = (array(name, dtype) for name in ("z_s_ext", "z_t_ext"))
    flat, even, target = far.clone(), sure.clone(), array("y_ext")
    flat[0], even[1] = 3.0, 0.0
    term = kind(temperature)
    for student, teacher in ((far, sure), (flat, even), (0 * far, 0 * far), (far, far)):
        exact = called(term, student.double(), teacher.double(), target).item()
        student = student.clone().requires_grad_()
        loss = called(term, student, teacher, target)
        loss.backward()
        assert student.grad.isfinite().all() and loss.item() == pytest.approx(exact, rel=2e-5, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_students_learns_as_separate_students_do(kind):
    _, teacher, target = lesson()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64)
    temperatures = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)

    def slope(student, temperature):
        return torch.func.grad(lambda z: called(kind(temperature), z, teacher, target))(student)

    stacked = torch.func.vmap(slope)(students, temperatures)
    one_by_one = [slope(student, t.item()) for student, t in zip(students, temperatures, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))


@pytest.mark.parametrize("kind", KINDS)
def test_two_classes_have_no_gradient_and_the_term_says_so(kind):
    student, teacher, target = lesson(2)
    (slope,) = torch.autograd.grad(called(kind(), student.requires_grad_(), teacher, target), student)
    assert slope.abs().max() < 1e-12
    with pytest.warns(UserWarning, match="two classes: .* learns from the labels alone"):
        kind().setup(Outputs(student), Outputs(teacher))


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        (NormKD, {"temperature": 0}, "kd.temperature"),
        (NormDKD, {"temperature": -1}, "kd.temperature"),
        (NormDKD, {"nontarget": -1}, "kd.nontarget"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(kind, settings, named):
    with pytest.raises(ValueError, match=named):
        kind(**settings)


@pytest.mark.parametrize("method", ["normkd", "normkd_dkd"])
def test_the_yaml_puts_every_number_in_its_place(method):
    own = ["kd.target=2", "kd.nontarget=5", "kd.warmup=0.1"] if method == "normkd_dkd" else []
    kd = compose(f"kd={method}", "kd.temperature=3", "kd.hard=0.5", "kd.weight=4", *own).kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights), kd.get("schedule"))
    student, teacher, target = lesson()
    loss = objective(Outputs(student), Outputs(teacher), Batch(None, target, None, progress=0.05))[0]
    tckd, nckd = normalized_decoupled_kl(student, teacher, target, 3.0)
    expected = 0.5 * (2 * tckd + 5 * nckd) if own else normalized_kl(student, teacher, 3.0)
    hard = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(loss, 0.5 * hard + 4 * expected)
