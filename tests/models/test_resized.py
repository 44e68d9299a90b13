"""A teacher at its own image size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kd.build import normalized
from kd.evaluation.cost import macs
from kd.interfaces import extract_outputs
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def made(own: int | None, width: float = 0.5) -> Normalized:
    torch.manual_seed(0)
    return normalized(TinyCNN(6, own or 16, width=width), {"image_size": own}, MEAN, STD).eval()


@pytest.mark.parametrize("own", [48, 12])
def test_the_network_sees_the_resampled_view(own):
    network, image = made(own), torch.rand(2, 3, 16, 16)
    sees = F.interpolate(image, (own, own), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(network(image), made(None)(sees))
        shown = extract_outputs(network, image)
    assert torch.equal(shown.logits, network(image)) and shown.features[0].shape[-1] == own // 2


def test_its_costs_are_those_at_its_own_size():
    assert macs(made(48), 16) == macs(made(None), 48) == 9 * macs(made(None), 16) - 8 * 6 * 64


def test_checkpoints_have_the_same_names_with_and_without():
    assert list(made(48).state_dict()) == list(made(None).state_dict())


def test_each_member_of_an_ensemble_has_its_own_size():
    members, image = [made(48), made(None, 0.25)], torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        expected = torch.stack([member(image) for member in members]).mean(0)
        assert torch.equal(Ensemble(members, "logits")(image), expected)
