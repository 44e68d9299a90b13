"""Factor transfer: published distances, the parameters that each part trains, and the warmup."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.interfaces import Batch, Outputs
from kd.methods.at import attention_transfer
from kd.methods.ft import FactorTransfer, direction, factor_distance
from tests.methods.published import agrees, array, entries


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


def at(progress: float) -> Batch:
    return Batch(None, None, None, progress=progress)


def made(student, teacher, **settings) -> FactorTransfer:
    torch.manual_seed(0)
    method = FactorTransfer(**settings)
    method.setup(shown(student), shown(teacher))
    return method


def size_of_gradient(module: nn.Module) -> float:
    return sum(0.0 if p.grad is None else p.grad.abs().sum().item() for p in module.parameters())


@entries("FT_paper")
def test_directions_are_as_far_apart_as_published(entry, dtype):
    agrees(entry, dtype, lambda student, teacher: factor_distance(student, teacher, "paper", entry["settings"]["p"]))


@entries("FT_RepDistiller")
def test_attention_maps_of_factors_are_as_far_apart_as_published(entry, dtype):
    p = entry["settings"]["p2"]
    agrees(entry, dtype, lambda student, teacher: factor_distance(student, teacher, "repdistiller", p))


def test_the_attention_of_factors_at_p_2_is_attention_transfer():
    student, teacher = array("f_s_a"), array("f_t_b")
    expected = attention_transfer(student, teacher)
    torch.testing.assert_close(factor_distance(student, teacher, "repdistiller", 2), expected)


@pytest.mark.parametrize("p", [1, 2])
def test_batch_duplication_and_each_images_scale_change_nothing(p):
    student, teacher = array("fac_s"), array("fac_t")
    expected = factor_distance(student, teacher, p=p).item()
    twice = factor_distance(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1), p=p).item()
    scaled = factor_distance(torch.linspace(0.1, 9, 8).double().view(8, 1, 1, 1) * student, teacher, p=p).item()
    assert [twice, scaled] == pytest.approx([expected, expected], rel=1e-12)


def test_opposite_factors_are_two_apart():
    factors = array("fac_s")
    assert factor_distance(-factors, 3 * factors, p=2).item() == pytest.approx(2, rel=1e-12)
    assert factor_distance(2 * factors, 3 * factors, p=1).item() == pytest.approx(0, abs=1e-16)


@pytest.mark.parametrize("variant", ["paper", "repdistiller"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("case", ["zero sample", "equal", "both zero"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_stay_finite_and_small(variant, p, case, dtype):
    """A sample of zeros has no direction: F.normalize would give it gradients of 1e12, a plain norm NaN."""
    student, teacher = array("fac_s", dtype).clone(), array("fac_t", dtype).clone()
    if case != "equal":
        student[0] = 0
    if case == "both zero":
        teacher[0] = 0
    if case == "equal":
        teacher = student.clone()
    student.requires_grad_()
    value = factor_distance(student, teacher, variant, p)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all() and student.grad.norm() < 10
    assert not student.grad[0].any()


def test_directions_have_length_one_or_zero():
    x = torch.randn(3, 4, 2, 2)
    x[1] = 0
    torch.testing.assert_close(direction(x).norm(dim=1), torch.tensor([1.0, 0.0, 1.0]))


def test_no_parameter_learns_from_both_parts():
    """The distance trains student and translator, the reconstruction trains encoder and decoder."""
    student = torch.randn(3, 4, 6, 6, requires_grad=True)
    teacher = torch.rand(3, 8, 6, 6)
    method = made(student.detach(), teacher)
    found = {}
    for weight in (0.0, 7.0, 14.0):
        method.weight, student.grad = weight, None
        method.zero_grad()
        method(shown(student), shown(teacher), at(1)).backward()
        found[weight] = [student.grad.clone()] + [p.grad.clone() for p in method.translator.parameters()]
        found[weight, "paraphraser"] = [p.grad for m in (method.encoder, method.decoder) for p in m.parameters()]
    assert not any(g.any() for g in found[0.0]) and all(g.any() for g in found[7.0])
    torch.testing.assert_close(found[14.0], [2 * g for g in found[7.0]])
    assert all(g.any() for g in found[0.0, "paraphraser"])
    torch.testing.assert_close(found[14.0, "paraphraser"], found[0.0, "paraphraser"])


def test_the_loss_is_the_weighted_distance_and_the_error_of_reconstruction():
    student, teacher = torch.randn(3, 4, 6, 6), torch.rand(3, 8, 3, 3)
    method = made(student, teacher, weight=11.0)
    pooled = nn.functional.adaptive_avg_pool2d(student, 3)
    factors = method.encoder(teacher)
    error = (method.decoder(factors) - teacher).pow(2).mean()
    expected = 11 * factor_distance(method.translator(pooled), factors) + error
    torch.testing.assert_close(method(shown(student), shown(teacher), at(1)), expected)
    assert factors.shape == (3, 4, 3, 3)  # half of the teacher's channels


def test_the_distance_waits_until_the_paraphraser_has_learned_a_little():
    student = torch.randn(3, 4, 6, 6, requires_grad=True)
    teacher = torch.rand(3, 8, 6, 6)
    method = made(student.detach(), teacher, warmup=0.2)
    method(shown(student), shown(teacher), at(0.19)).backward()
    assert not student.grad.any() and size_of_gradient(method.translator) == 0 < size_of_gradient(method.encoder)
    method(shown(student), shown(teacher), at(0.2)).backward()
    assert student.grad.any() and size_of_gradient(method.translator) > 0


def test_the_paraphraser_learns_to_reconstruct():
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 4, 4, 4), torch.rand(8, 8, 4, 4)
    method = made(student, teacher, weight=0.0)
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = method(shown(student), shown(teacher), at(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_maps_of_a_single_place_have_directions_but_no_attention():
    student, teacher = torch.randn(2, 4, 2, 2), torch.randn(2, 8, 1, 1)
    assert made(student, teacher)(shown(student), shown(teacher), at(1)).isfinite()
    with pytest.raises(ValueError, match="kd.variant=repdistiller .* use kd.variant=paper"):
        made(student, teacher, variant="repdistiller")


def test_the_rate_is_a_share_of_the_teachers_channels_and_at_least_one_remains():
    student, teacher = torch.randn(2, 4, 3, 3), torch.randn(2, 8, 3, 3)
    channels = {rate: made(student, teacher, rate=rate).translator(student).shape[1] for rate in (0.01, 0.5, 1.0, 2)}
    assert channels == {0.01: 1, 0.5: 4, 1.0: 8, 2: 16}


def test_a_stack_of_students_learns_as_separate_students_do():
    students, teacher = torch.randn(3, 4, 2, 6, 6).double(), torch.randn(4, 2, 3, 3).double()
    for settings in (("paper", 1), ("paper", 2), ("repdistiller", 1)):
        stacked = torch.func.vmap(factor_distance, in_dims=(0, None, None, None))(students, teacher, *settings)
        torch.testing.assert_close(stacked, torch.stack([factor_distance(s, teacher, *settings) for s in students]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "code"}, "kd.variant must be one of paper, repdistiller, got 'code'"),
        ({"p": 3}, "kd.p must be 1 or 2, got 3"),
        ({"rate": 0}, "kd.rate must be above 0"),
        ({"warmup": 1.0}, r"kd.warmup must lie in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FactorTransfer(**settings)
