"""CS-KD: published values, pairs, and labels of the first of each pair."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Batch, Outputs
from kd.methods.cs_kd import CSKD, class_wise_kl
from kd.methods.hinton import soft_label_kl
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries, pair_of_logits


def batch(target: torch.Tensor) -> Batch:
    count = len(target)
    index = torch.arange(2 * count)
    return Batch(torch.zeros(2 * count), target.repeat(2), index, views=2, label_blocks=1)


@entries("CSKD_total")
def test_the_loss_is_the_published_one(entry, dtype):
    settings = entry["settings"]

    def loss(z, other, y):
        return F.cross_entropy(z, y) + settings["lambda"] * class_wise_kl(z, other, settings["T"])

    agrees(entry, dtype, loss)


@entries("CSKD_total")
def test_so_it_is_through_objective_and_batch(entry, dtype):
    kd = compose("kd=cs_kd", f"kd.temperature={entry['settings']['T']}", f"kd.weight={entry['settings']['lambda']}").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    assert objective.sampler == "same_class_pairs" and not objective.needs
    agrees(entry, dtype, lambda z, other, y: objective(Outputs(torch.cat([z, other])), None, batch(y))[0])


def test_the_other_image_gets_no_gradient_and_learns_no_label():
    first, second = (z.requires_grad_() for z in pair_of_logits())
    kd = compose("kd=cs_kd").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    objective(Outputs(torch.cat([first, second])), None, batch(torch.arange(8) % 6))[0].backward()
    assert first.grad.abs().sum() > 0 and (second.grad is None or not second.grad.any())


def test_shifts_copies_and_equal_predictions():
    first, second = pair_of_logits()
    here = class_wise_kl(first, second, 4.0).item()
    assert class_wise_kl(first + first[:, :1], second - 3, 4.0).item() == pytest.approx(here, rel=1e-12)
    assert class_wise_kl(first.repeat(2, 1), second.repeat(2, 1), 4.0).item() == pytest.approx(here, rel=1e-12)
    assert class_wise_kl(2 * first, 2 * second, 8.0).item() == pytest.approx(4 * here, rel=1e-12)
    assert class_wise_kl(first, first + 1, 4.0).item() == pytest.approx(0, abs=1e-14)


def test_far_logits_stay_finite_in_float32():
    z, other = array("z_s_ext", torch.float32).requires_grad_(), array("z_t_ext", torch.float32)
    loss = class_wise_kl(z, other, 1.0)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()
    assert loss.item() == pytest.approx(class_wise_kl(z.detach().double(), other.double(), 1.0).item(), rel=1e-5)


def test_a_stack_of_students_learns_as_separate_students_do():
    students = torch.stack([3 * torch.randn(8, 6, dtype=torch.float64) for _ in range(3)])
    term, asked = CSKD(), batch(torch.arange(4))
    slope = torch.func.grad(lambda z: term(Outputs(z), None, asked))
    torch.testing.assert_close(torch.func.vmap(slope)(students), torch.stack([slope(z) for z in students]))
    expected = soft_label_kl(students[0, :4], students[0, 4:], 4.0)
    torch.testing.assert_close(term(Outputs(students[0]), None, asked), expected)


def test_what_means_nothing_is_refused():
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="kd.temperature"):
            CSKD(wrong)
    with pytest.raises(RuntimeError, match="kd=cs_kd asks for a sampler of two blocks, and this batch has 1"):
        CSKD()(Outputs(torch.zeros(4, 3)), None, batch(torch.arange(2))._replace(views=1))
