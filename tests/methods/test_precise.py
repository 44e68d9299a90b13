"""The logged value of a soft term is precise at every temperature: float32 against float64, never below 0."""

from __future__ import annotations

import warnings
from functools import cache
from itertools import product

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kd.interfaces import LOGITS_ONLY, Batch, Outputs
from kd.methods._precise import kl, relative_kl, with_value
from kd.methods.crd import contrast
from kd.methods.dml import mutual
from kd.methods.hinton import soft_label_kl
from kd.methods.pkt import neighbour_loss
from tests.conftest import compose, options

TEMPERATURES = (0.1, 1.0, 4.0, 100.0, 1e5)
CLASSES = (2, 10, 1000)
APART = (1e-3, 1.0, 30.0)  # of the student's logits from the teacher's
WARM = ("temperature", "temperatures", "lowest")  # names of settings of a temperature


@cache
def pages(method: str) -> dict:
    """Return the terms of a method that read logits and have a temperature, their own or that of a term inside."""
    terms = OmegaConf.to_container(compose(f"kd={method}"), resolve=True)["kd"]["terms"]
    return {name: page for name, page in terms.items() if isinstance(terms, dict) and warmed(page, 0.37) != page}


def warmed(page: dict, temperature: float) -> dict:
    return {
        name: warmed(value, temperature)
        if isinstance(value, dict)
        else [temperature]
        if name == "temperatures"
        else temperature
        if name in WARM
        else value
        for name, value in page.items()
    }


OTHERS = (  # they read embeddings, maps or several views, are bound to a teacher, or have none: see their own files
    "crd",
    "crld",
    "cs_kd",
    "cwd",
    "dhkd",
    "dlb",
    "dml",
    "mlkd",
    "ofa_stages",
    "rrd",
    "sdd",
    "sdd_dkd",
    "sdd_nkd",
    "sld",
    "sskd",
    "tf_kd",
    "wkd_logits",
)
METHODS = [method for method in options("kd") if method not in OTHERS and pages(method)]


def logits(classes: int, apart: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits of student and teacher and targets, in float32 as in training."""
    generator = torch.Generator().manual_seed(classes)
    teacher = 3 * torch.randn(32, classes, generator=generator)
    student = teacher + apart * torch.randn(32, classes, generator=generator)
    return student, teacher, torch.randint(0, classes, (32,), generator=generator)


def test_the_methods_with_a_temperature_are_enrolled():
    assert {"hinton", "dkd", "lskd", "lskd_dkd", "wsld", "nkd", "dist", "ctkd", "takd"} <= set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_soft_term_agrees_with_float64_and_is_never_negative(method):
    for temperature in TEMPERATURES:
        for page in pages(method).values():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                term = instantiate(warmed(page, temperature))
                assert term.needs == LOGITS_ONLY
            for classes, apart, mixed in product(CLASSES, APART, (False, True)):
                student, teacher, target = logits(classes, apart)
                batch = Batch(student, target, target)  # no term reads the image
                if mixed:  # as after autocast
                    student, teacher = (
                        Outputs(x.bfloat16()).to_float32(LOGITS_ONLY).logits for x in (student, teacher)
                    )
                own, given = Outputs(student), Outputs(teacher)
                with warnings.catch_warnings(action="ignore"):  # the warning about two classes
                    term.setup(own, given)
                value = term(own, given, batch).item()
                own, given = Outputs(student.double()), Outputs(teacher.double())
                right = term.double()(own, given, batch).item()
                term.float()
                case = f"T={temperature}, K={classes}, {apart} apart: {value} and in float64 {right}"
                assert value >= 0, case
                # Gram matrices have three digits there, everything else at least five
                assert value == pytest.approx(right, rel=2e-3, abs=1e-12), case


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_so_are_the_terms_of_two_that_teach_each_other(temperature):
    student, peer, _ = logits(10, 1e-3)
    found = torch.stack(mutual(student, peer, temperature))
    torch.testing.assert_close(found.double(), torch.stack(mutual(student.double(), peer.double(), temperature)))
    assert (found > 0).all()


@pytest.mark.parametrize("apart", APART)
@pytest.mark.parametrize("images", [2, 64])
def test_so_are_the_terms_on_embeddings(apart, images):
    teacher = torch.randn(images, 32, generator=torch.Generator().manual_seed(images)).relu()
    student = teacher + apart * torch.randn(images, 32, generator=torch.Generator().manual_seed(1))
    value, right = neighbour_loss(student, teacher).item(), neighbour_loss(student.double(), teacher.double()).item()
    assert value >= 0 and value == pytest.approx(right, rel=1e-2, abs=1e-12)  # a cosine loses digits of its own
    scores = torch.nn.functional.normalize(student, dim=-1) @ torch.nn.functional.normalize(teacher, dim=-1).T / 0.07
    assert contrast(scores, torch.tensor(20.0), 1000).item() >= 0


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_is_that_of_the_loss_as_it_is_written_to_the_bit(temperature):
    student, teacher, _ = logits(10, 0.1)
    student.requires_grad_()
    own, given = ((each / temperature).log_softmax(-1) for each in (student, teacher))
    written = (temperature**2 * (given.exp() * (given - own)).sum(-1)).mean()
    (expected,) = torch.autograd.grad(written, student)
    (found,) = torch.autograd.grad(soft_label_kl(student, teacher, temperature), student)
    assert torch.equal(found, expected)


def test_what_is_not_finite_stays_so():
    """A training that diverged must still report it."""
    student, teacher, _ = logits(10, 1.0)
    student[3, 4] = torch.nan
    assert soft_label_kl(student, teacher, 4.0).isnan()
    assert not soft_label_kl(teacher, torch.full_like(teacher, torch.inf), 4.0).isfinite()


def near(value: float):
    return pytest.approx(value, rel=1e-11)


def test_both_forms_of_a_divergence_meet_where_they_change():
    """The value has no step where the series ends and the exact form begins."""
    teacher = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for scale in torch.linspace(0.05, 40, 400, dtype=torch.float64):
        apart = scale * torch.tensor([[1.0, -0.3, 0.2, -1.2, 0.7]], dtype=torch.float64)
        own, given = (teacher + apart).log_softmax(-1), teacher.log_softmax(-1)
        written = (given.exp() * (given - own)).sum(-1, keepdim=True)
        found = kl(apart, teacher, 1.0, torch.full_like(written, torch.nan))  # NaN would show its use
        assert found.isnan() == (written.expm1() >= 1) and found.nan_to_num(written.item()).item() == near(
            written.item()
        )
        p, q = given.exp(), own.exp()
        assert relative_kl(p, q, 0.0).item() == near(written.item())


def test_a_loss_that_is_infinite_stays_so():
    loss = torch.tensor([float("inf"), float("nan"), 2.0], requires_grad=True)
    found = with_value(torch.tensor([1.0, 1.0, 1.0]), loss)
    assert found[0] == float("inf") and found[1].isnan() and found[2] == 1
