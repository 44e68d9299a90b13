"""Maps of spatial gates: their values, and that reading them changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.attention.attach import attach
from kd.attention.gate import SpatiallyGated, rms_ratio
from kd.attention.maps import gate_maps
from kd.attention.vea import VisionEagle
from kd.models.ensemble import Ensemble
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from tests.attention.variants import network, wrap

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def student(option: str | None, stages: list[int]) -> nn.Module:
    torch.manual_seed(0)
    return attach(TinyCNN(6, 32), wrap(option) if option else None, stages)


def test_vision_eagle_shows_its_scan_at_the_size_of_what_it_gates():
    eagle = student("vea", [0, 1, 2])
    maps = gate_maps(eagle, IMAGE)
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "stage 0": (2, 32, 32), "stage 1": (2, 16, 16), "stage 2": (2, 8, 8),
    }  # fmt: skip
    stage = eagle.eval().stages[0]
    with torch.no_grad():
        gate = stage.scan(stage.glance(IMAGE), (32, 32))
        assert torch.equal(maps["stage 0"], gate[:, 0])
        torch.testing.assert_close(eagle.stages[0](IMAGE), stage.look(IMAGE * maps["stage 0"][:, None]))
    assert all(m.min() > 0 and m.max() < 1 for m in maps.values())


class Checkered(nn.Module):
    """Lets nothing, a half or all of a place through, in every channel."""

    def gate(self, x):
        rows, columns = torch.arange(x.shape[2]), torch.arange(x.shape[3])
        return (rows[:, None] + columns).remainder(3) / 2

    def forward(self, x):
        return x * self.gate(x)


def test_a_gate_of_one_number_a_place_is_shown_as_it_is():
    layer, stage = Checkered(), nn.Conv2d(3, 8, 1)
    tiny = TinyCNN(6, 32)
    tiny.stages[1] = SpatiallyGated(tiny.stages[1], layer)
    ((name, shown),) = gate_maps(tiny, IMAGE).items()
    assert name == "stage 1"
    torch.testing.assert_close(shown, layer.gate(torch.zeros(1, 1, 8, 8)).expand(2, 8, 8))
    seen = stage(IMAGE)
    torch.testing.assert_close(rms_ratio(seen, layer(seen)), layer.gate(IMAGE).expand(2, 32, 32))


def test_rms_ratio_is_taken_over_channels():
    before = torch.tensor([[3.0, 4.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)  # two channels, two places
    after = torch.tensor([[0.3, 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)
    expected = torch.tensor([[[0.06, 0.0]]])  # 0.3 of 5; 0 where both are 0
    torch.testing.assert_close(rms_ratio(before, after), expected)
    assert rms_ratio(before.half(), after.half()).dtype == torch.float32
    assert rms_ratio(before * 0, after).eq(0).all()


@pytest.mark.parametrize("option", [None, "se", "eca", "gca", "nl"])
def test_what_treats_all_places_alike_shows_nothing(option):
    assert gate_maps(student(option, [0, 1, 2]), IMAGE) == {}


@pytest.mark.parametrize("option", ["vea", "cbam", "simam", "triplet", "coord"])
def test_looking_changes_nothing(option):
    eagle = student(option, [1, 2]).train()
    eagle.stages[0].eval()  # a frozen part of a network in training
    state = {name: x.clone() for name, x in eagle.state_dict().items()}
    modes = [m.training for m in eagle.modules()]
    first, again = gate_maps(eagle, IMAGE), gate_maps(eagle, IMAGE)
    assert list(first) == ["stage 1", "stage 2"]
    assert all(torch.equal(first[name], again[name]) and not first[name].requires_grad for name in first)
    assert [m.training for m in eagle.modules()] == modes
    assert all(torch.equal(x, state[name]) for name, x in eagle.state_dict().items())
    assert not any(m._forward_hooks for m in eagle.modules())


def test_an_image_that_does_not_fit_leaves_no_hook():
    eagle = student("cbam", [1]).train()
    with pytest.raises(RuntimeError):
        gate_maps(eagle, torch.rand(2, 4, 32, 32))
    assert eagle.training and not any(m._forward_hooks for m in eagle.modules())


def test_gates_are_found_inside_other_modules():
    plain = student("vea", [1])
    shown = gate_maps(Normalized(plain, [0.0] * 3, [1.0] * 3), IMAGE)
    assert torch.equal(shown["stage 1"], gate_maps(plain, IMAGE)["stage 1"])
    pair = Ensemble([Normalized(student("vea", [1]), [0.0] * 3, [1.0] * 3), student("se", [1]), plain])
    assert list(gate_maps(pair, IMAGE)) == ["members.0.network stage 1", "members.2 stage 1"]


def test_maps_are_float32_in_any_precision():
    deep = attach(network("test_efficientnet"), VisionEagle, [1, 2]).double()
    assert {m.dtype for m in gate_maps(deep, IMAGE.double()).values()} == {torch.float32}
