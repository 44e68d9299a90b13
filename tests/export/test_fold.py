"""Folding: the same function, fewer operations, and nothing is folded that would change it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.export.fold import fold_batch_norms
from kd.export.program import example, to_program
from tests.export.students import TINY, images, randomised, student, timm

ALL = {  # network -> the number of its batch norms, all of which follow a convolution
    "tiny_cnn": (TINY, 3),
    "tiny_resnet": ({"_target_": "kd.models.tiny_resnet.TinyResNet", "width": 0.5}, 11),
    "tiny_dscnn": ({"_target_": "kd.models.tiny_dscnn.TinyDSCNN"}, 13),
    "timm's norm and act in one": (timm("mobilenetv3_small_050"), 34),
}


def fold(network: nn.Module, size: int = 32):
    return fold_batch_norms(network, to_program(network, size), example(size))


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


@pytest.mark.parametrize("name", ALL)
def test_a_folded_network_is_the_same_function(name):
    spec, count = ALL[name]
    network = student(spec).network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network)
    assert folded.count == count == norms(network) and norms(folded.network) == 0
    some = images(20, 32)
    assert (folded.network(some) - network(some)).abs().max() < 1e-5
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items()), "the original changed"


def test_it_is_exact_in_float64():
    network = student({"_target_": "kd.models.tiny_resnet.TinyResNet", "width": 0.5}).network.double()
    program = torch.export.export(network, (images(2, 32).double(),))
    folded = fold_batch_norms(network, program, images(2, 32).double())
    some = images(8, 32).double()
    assert folded.count == 11 and (folded.network(some) - network(some)).abs().max() < 1e-12


class Wired(nn.Module):
    """Convolutions and batch norms in arrangements of which only some may be folded."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=kind == "bias")
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        if kind == "groups":
            self.conv = nn.Conv2d(3, 6, 3, groups=3)
            self.norm = nn.BatchNorm2d(6)
        if kind == "transposed":
            self.conv = nn.ConvTranspose2d(3, 6, 3, groups=3)
            self.norm = nn.BatchNorm2d(6)
        if kind == "not affine":
            self.norm = nn.BatchNorm2d(4, affine=False)
        if kind == "without statistics":
            self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        if kind == "norm first":
            self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        if self.kind == "norm first":
            return self.conv(self.norm(x)).mean((2, 3))
        y = self.conv(x)
        if self.kind == "read twice":
            return (self.norm(y) + y).mean((2, 3))
        if self.kind == "two norms":
            return (self.norm(y) * self.other(y)).mean((2, 3))
        if self.kind == "conv twice":
            return (self.norm(y) + self.conv(x.flip(-1))).mean((2, 3))
        if self.kind == "norm twice":
            return self.norm(self.norm(y)).mean((2, 3))
        if self.kind == "activation between":
            return self.norm(y.relu()).mean((2, 3))
        return self.norm(y).mean((2, 3))


FOLDED = ("plain", "bias", "groups", "transposed", "not affine")
LEFT = ("norm first", "read twice", "two norms", "conv twice", "norm twice", "activation between", "without statistics")


def wired(kind: str) -> nn.Module:
    torch.manual_seed(0)
    network = Wired(kind)
    if kind == "without statistics":
        return network.eval()
    return randomised(network)


@pytest.mark.parametrize("kind", FOLDED)
def test_what_follows_a_convolution_alone_is_folded(kind):
    network = wired(kind)
    folded = fold(network, 8)
    assert folded.count == 1
    some = images(5, 8)
    assert torch.allclose(folded.network(some), network(some), atol=1e-6)


@pytest.mark.parametrize("kind", LEFT)
def test_any_other_arrangement_is_left_alone(kind):
    network = wired(kind)
    folded = fold(network, 8)
    assert folded.count == 0
    some = images(5, 8)
    assert torch.equal(folded.network(some), network(some))


def test_a_hook_on_a_batch_norm_keeps_it():
    network = wired("plain")
    network.norm.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert fold(network, 8).count == 0
