"""Every yaml of the group `kd` keeps the contract of a method; a new one is enrolled by being there."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from kd.interfaces import Batch, observe
from kd.models.tiny_cnn import TinyCNN
from kd.objective import Objective
from tests.conftest import compose, options


def objective_of(kd) -> Objective:
    return Objective(instantiate(kd.terms), dict(kd.weights))


@pytest.mark.parametrize("method", options("kd"))
def test_a_method_composes_and_lowers_its_loss(method):
    torch.manual_seed(0)
    objective = objective_of(compose(f"kd={method}").kd)
    student, teacher = TinyCNN(6, 16, width=0.25), TinyCNN(6, 16, width=0.5).eval()
    batch = Batch(torch.rand(12, 3, 16, 16), torch.arange(12) % 6, torch.arange(12))
    with torch.no_grad():
        answer = observe(teacher, batch.image)
    objective.setup(observe(student, batch.image), answer)
    learned = [*student.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(learned, 1e-2)
    losses = []
    for _ in range(20):
        loss, parts = objective(observe(student, batch.image), answer, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert loss.isfinite() and all(part.ndim == 0 for part in parts.values())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in learned)
    assert all(p.grad is None for p in teacher.parameters())


def test_a_term_of_weight_zero_is_left_out():
    objective = objective_of(compose("kd.alpha=0").kd)
    assert list(objective.terms) == ["hard"] and not objective.needs
    assert objective_of(compose("kd.alpha=1").kd).needs == {"logits"}


def test_names_of_terms_and_weights_must_agree():
    with pytest.raises(ValueError, match="the names must agree"):
        Objective({"hard": torch.nn.Identity()}, {"soft": 1.0})
