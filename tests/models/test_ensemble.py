"""Ensembles of teachers."""

from __future__ import annotations

import pytest
import torch

from kd.interfaces import extract_outputs
from kd.models.ensemble import RULES, Ensemble, combine
from tests.methods.test_contract import network


def test_the_rules_compute_what_their_names_say():
    logits = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(combine(logits, "probabilities").exp(), logits.softmax(-1).mean(0))
    torch.testing.assert_close(combine(logits, "log_mean_exp"), logits.exp().mean(0).log())
    geometric = logits.softmax(-1).prod(0) ** (1 / 3)
    torch.testing.assert_close(combine(logits, "logits").softmax(-1), geometric / geometric.sum(-1, keepdim=True))
    with pytest.raises(ValueError, match="teacher.combine must be one of probabilities"):
        combine(logits, "vote")


@pytest.mark.parametrize("rule", RULES)
def test_far_apart_logits_stay_finite_and_copies_agree_with_the_one(rule):
    logits = torch.tensor([[60.0, -60.0, 0.0]])
    one = combine(torch.stack([logits, logits]), rule)
    torch.testing.assert_close(one.softmax(-1), logits.softmax(-1))


def test_an_ensemble_has_logits_alone():
    members = [network(0.25).eval(), network(0.5).eval()]
    image = torch.rand(2, 3, 16, 16)
    shown = extract_outputs(Ensemble(members), image, {"embedding", "features", "class_maps"})
    assert shown.embedding is None and shown.features == () and shown.class_maps is None
    torch.testing.assert_close(shown.logits.exp(), sum(member(image).softmax(-1) for member in members) / 2)
