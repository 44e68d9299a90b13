"""The frozen teacher: the same outputs as the network, by fewer operations."""

import pytest
import timm
import torch
from torch import nn

from kd.interfaces import extract_outputs
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.device import Device
from kd.teachers.frozen import foldable, frozen_copy

NEEDS = frozenset({"logits", "embedding", "features"})
FLOAT32 = Device(torch.device("cpu"), torch.float32, True)
BFLOAT16 = Device(torch.device("cpu"), torch.bfloat16, True)


def trained(network: nn.Module) -> Normalized:
    """Return a network whose batch norms change their input, as after a training."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(-1.5, 1.5)
            module.bias.data.normal_()
    return Normalized(network, [0.5] * 3, [0.25] * 3).eval()


def outputs(network, image, device):
    with torch.no_grad(), device.autocast():
        found = extract_outputs(network, image, NEEDS)
    return [found.logits, found.embedding, *found.features]


@pytest.mark.parametrize(
    ("name", "norms"), [("resnet18", 20), ("mobilenetv2_100", 52), ("resnetv2_50", 32), ("convnext_atto", 0)]
)
def test_networks_of_timm_agree_to_rounding(name, norms):
    network, image = trained(timm.create_model(name, num_classes=6)), torch.rand(2, 3, 64, 64)
    frozen = frozen_copy(network, image, FLOAT32, NEEDS)
    assert len(foldable(network, image)) == norms
    other = torch.rand(3, 3, 64, 64)
    for mine, theirs in zip(outputs(frozen, other, FLOAT32), outputs(network, other, FLOAT32), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())
    left = [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) - norms
    assert (frozen is network) == (norms == 0)


def test_weights_in_bfloat16_give_the_bits_of_autocast():
    network, image = trained(TinyCNN(6, 16, width=0.5)), torch.rand(4, 3, 16, 16)
    for module in network.modules():  # so that only the conversion of weights is left
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    frozen = frozen_copy(network, image, BFLOAT16, NEEDS)
    assert frozen.network.classifier.weight.dtype == torch.bfloat16
    for mine, theirs in zip(outputs(frozen, image, BFLOAT16), outputs(network, image, BFLOAT16), strict=True):
        assert torch.equal(mine, theirs)


def test_the_network_itself_does_not_change():
    network, image = trained(TinyCNN(6, 16, width=0.5)), torch.rand(2, 3, 16, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = frozen_copy(network, image, BFLOAT16, NEEDS)
    after = network.state_dict()
    assert frozen is not network and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in network.modules())


class Shared(TinyCNN):
    """Reads the output of a convolution past its batch norm."""

    def forward_intermediates(self, image):
        conv, *rest = self.stages[0]
        before = conv(image)
        last = nn.Sequential(*rest)(before)
        for stage in self.stages[1:]:
            last = stage(last)
        return last, [before, last]


class Looks(TinyCNN):
    """Reads an attribute of its batch norm."""

    def forward_intermediates(self, image):
        last, features = super().forward_intermediates(image)
        return last * self.stages[0][1].weight.sum(), features


@pytest.mark.parametrize("kind", [Shared, Looks])
def test_what_would_change_is_not_folded(kind):
    network, image = trained(kind(6, 16, width=0.5)), torch.rand(2, 3, 16, 16)
    frozen = frozen_copy(network, image, FLOAT32, NEEDS)
    assert any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    for mine, theirs in zip(outputs(frozen, image, FLOAT32), outputs(network, image, FLOAT32), strict=True):
        assert torch.equal(mine, theirs)
