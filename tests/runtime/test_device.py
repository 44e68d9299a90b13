"""Gradients in mixed precision are right on this device."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kd.runtime.device import resolve_device, subsample_before_pointwise_convs


def dirty_memory():
    """Make a read of uninitialised memory return NaN."""
    torch.full((1 << 20,), float("nan"))


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "size"),
    [(64, 3, 2, 1, 1), (16, 3, 2, 1, 1), (64, 5, 2, 2, 1), (32, 3, 3, 1, 2), (32, 3, 2, 0, 3), (32, 3, 4, 1, 4)],
)
def test_gradients_in_bfloat16_are_those_of_float64_within_its_digits(channels, kernel, stride, padding, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 2 * channels, kernel, stride, padding)
    image = torch.randn(8, channels, size, size)
    exact = copy.deepcopy(conv).double()
    exact(image.double()).square().sum().backward()
    device = resolve_device("cpu", "bfloat16")
    conv = device.to_device(device.to_device(conv))  # twice is once
    for _ in range(5):
        conv.zero_grad()
        with device.autocast():
            output = conv(image.contiguous(memory_format=torch.channels_last))
        dirty_memory()
        output.float().square().sum().backward()
        apart = (conv.weight.grad - exact.weight.grad).abs().max() / exact.weight.grad.abs().max()
        assert apart < 0.03


def test_a_narrow_conv_in_float32_can_be_copied_and_raises_as_before():
    device = resolve_device("cpu", "bfloat16")
    conv = copy.deepcopy(device.to_device(nn.Conv2d(4, 4, 3, 2, 1)))
    assert list(conv.state_dict()) == ["weight", "bias"]
    with device.autocast():
        with pytest.raises(RuntimeError):
            conv(torch.zeros(1, 5, 1, 1))
        assert torch.is_autocast_enabled("cpu")
        assert conv(torch.zeros(1, 4, 1, 1)).dtype == torch.float32
        assert conv(torch.zeros(1, 4, 8, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize(("channels", "stride", "groups"), [(4, 2, 1), (3, 3, 1), (8, 2, 4)])
def test_a_pointwise_conv_that_is_given_only_what_it_uses_is_the_same_function(channels, stride, groups):
    """torch's own backward pass of such a convolution may end the process on a processor with AVX2 alone."""
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 8, 1, stride, groups=groups)
    exact = copy.deepcopy(conv).double()
    subsample_before_pointwise_convs(conv)
    subsample_before_pointwise_convs(conv)  # twice is once
    conv = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    for side in (16, 9, 1):
        image = torch.randn(8, channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
        double = image.detach().double().requires_grad_()
        output, expected = conv(image), exact(double)
        (found,) = torch.autograd.grad(output.square().sum(), image)
        (right,) = torch.autograd.grad(expected.square().sum(), double)
        for ours, exactly in ((output, expected), (found, right)):
            torch.testing.assert_close(ours.double(), exactly, rtol=1e-4, atol=1e-5)
    assert list(conv.state_dict()) == ["weight", "bias"]


def test_a_network_of_few_channels_trains_on_this_processor():
    from kd.models.tiny_resnet import TinyResNet

    network = resolve_device("cpu", "float32").to_device(TinyResNet(6, 16, width=0.25))
    for count in (32, 25, 32, 25):
        image = torch.rand(count, 3, 16, 16).contiguous(memory_format=torch.channels_last)
        network(image).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
