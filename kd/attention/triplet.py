"""Rotate to Attend: Convolutional Triplet Attention Module (Misra et al. 2021), https://arxiv.org/abs/2010.03045.

Three gates, each blind to one axis: over channel and width, channel and height, height and width. Each gate reads the
maximum and the mean along its axis through a 7x7 convolution; the output is the mean of the three gated maps.

It has 300 parameters a stage, at any width. The authors report 77.5 % on ImageNet for ResNet-50 with one in every
block, and 75.4 % without it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.attention.gate import SpatiallyGated


class AxisGate(nn.Module):
    """A gate in (0, 1) from (maximum, mean) along one axis: convolution - batch norm - sigmoid."""

    def __init__(self, axis: int, kernel_size: int):
        super().__init__()
        self.axis = axis
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)  # the published code's; the paper gives none

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the gate, whose size along the axis is 1."""
        pooled = torch.stack((x.amax(self.axis), x.mean(self.axis)), 1)
        return torch.sigmoid(self.bn(self.conv(pooled))).squeeze(1).unsqueeze(self.axis)


class TripletAttention(nn.Module):
    """``x`` times the mean of the three gates.

    Args:
        kernel_size: of each gate's convolution, odd.
    """

    def __init__(self, kernel_size: int = 7):
        super().__init__()
        self.gates = nn.ModuleList(AxisGate(axis, kernel_size) for axis in (1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return sum(x * gate(x) for gate in self.gates) / len(self.gates)


def triplet(stage: nn.Module, channels: int, kernel_size: int = 7) -> nn.Module:
    """Return ``stage``, its output gated by ``TripletAttention``; ``channels`` has no effect."""
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f"attention.wrap.kernel_size must be odd, 1 or more, got {kernel_size}")
    return SpatiallyGated(stage, TripletAttention(kernel_size))
