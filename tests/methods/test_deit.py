"""DeiT's hard distillation, with and without a distillation head."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from kd.interfaces import Batch, Context, Outputs, extract_outputs
from kd.methods.deit import HardDistillation, SoftDistillation, hard_distillation
from kd.models.normalized import Normalized
from kd.train.objective import Objective
from tests.methods.published import agrees, entries
from tests.methods.test_contract import chosen, see


def cross_entropy_by_hand(logits: list[list[float]], labels: list[int]) -> float:
    """Return the mean of log(sum_k exp(z_k)) - z_y, written out with Python's floats."""
    return sum(math.log(sum(map(math.exp, z))) - z[y] for z, y in zip(logits, labels, strict=True)) / len(labels)


HEAD = [[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]]
DISTILLATION = [[0.5, 0.5, -2.0], [3.0, -1.0, 0.0]]
TEACHER = [[0.1, 0.2, 0.3], [-4.0, 7.0, 1.0]]  # predicts 2 and 1


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss_of(student: Outputs, *overrides: str) -> float:
    from kd.build import build_objective

    objective = build_objective(chosen("deit", *overrides))
    batch = Batch(torch.zeros(2, 3, 1, 1), torch.tensor([0, 1]), torch.arange(2))
    return objective(student, Outputs(tensor(TEACHER)), batch)[0].item()


def test_each_head_learns_its_own_label():
    heads = tensor(HEAD), tensor(DISTILLATION)
    student = Outputs(sum(heads) / 2, heads=heads)
    label, taught = cross_entropy_by_hand(HEAD, [0, 1]), cross_entropy_by_hand(DISTILLATION, [2, 1])
    assert math.isclose(loss_of(student), (label + taught) / 2, rel_tol=1e-12)
    assert math.isclose(loss_of(student, "kd.alpha=0.3"), 0.7 * label + 0.3 * taught, rel_tol=1e-12)


def test_one_head_learns_both_labels():
    by_hand = (cross_entropy_by_hand(HEAD, [0, 1]) + cross_entropy_by_hand(HEAD, [2, 1])) / 2
    assert math.isclose(loss_of(Outputs(tensor(HEAD))), by_hand, rel_tol=1e-12)


@entries("DeiT_token_total")
def test_the_objective_is_the_published_one(entry, dtype):
    from kd.build import build_objective

    settings = entry["settings"]
    overrides = [f"kd.alpha={settings['alpha']}"]
    if settings["type"] == "soft":
        overrides.append(f"kd.temperature={settings['T']}")
    objective = build_objective(chosen({"hard": "deit", "soft": "deit_soft"}[settings["type"]], *overrides))

    def loss(distillation, head, teacher, target):
        student = Outputs(distillation)
        if settings["heads"] == 2:
            student = Outputs((head + distillation) / 2, heads=(head, distillation))
        return objective(student, Outputs(teacher), Batch(None, target, torch.arange(len(target))))[0]

    agrees(entry, dtype, loss)


def test_a_temperature_that_means_nothing_is_refused():
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="kd.temperature must be above 0"):
            SoftDistillation(wrong)


def test_the_teachers_scale_and_margin_do_not_matter():
    logits, teacher = torch.randn(8, 5), torch.randn(8, 5)
    assert torch.equal(hard_distillation(logits, teacher), hard_distillation(logits, 100 * teacher - 3))


def student(name: str) -> Normalized:
    torch.manual_seed(0)
    return Normalized(timm.create_model(name, num_classes=6, img_size=32), (0.5,) * 3, (0.25,) * 3)


def bound(network: Normalized) -> Normalized:
    objective = Objective({"distilled": HardDistillation()}, {"distilled": 1.0})
    every = torch.arange(12)
    return objective.bind(Context(network, None, lambda number: network, see, every % 6, every, 32))


def test_timms_two_heads_are_apart_in_training_and_averaged_in_evaluation():
    network, image = bound(student("deit_tiny_distilled_patch16_224")), torch.rand(4, 3, 32, 32)
    shown = extract_outputs(network.train(), image)
    assert len(shown.heads) == 2 and shown.embedding.shape == (4, 192)
    torch.testing.assert_close(shown.logits, (shown.heads[0] + shown.heads[1]) / 2)
    shown.to_float32(frozenset()).label_logits.sum().backward()
    inner = network.network
    assert inner.head.weight.grad is not None and inner.head_dist.weight.grad is None, "labels train the class head"
    with torch.no_grad():
        seen = extract_outputs(network.eval(), image)
        assert not seen.heads and torch.equal(seen.logits, network(image))


def test_other_methods_train_the_mean_and_a_network_without_a_token_has_one_head():
    image = torch.rand(2, 3, 32, 32)
    assert not extract_outputs(student("deit_tiny_distilled_patch16_224").train(), image).heads
    assert not extract_outputs(bound(student("test_vit")).train(), image).heads
