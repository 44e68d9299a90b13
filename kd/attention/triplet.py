"""Rotate to Attend: Convolutional Triplet Attention Module (Misra et al. 2021), https://arxiv.org/abs/2010.03045.

Three gates, each blind to one axis: of channel and width, of channel and height, of height and width. Each sees the
largest and the mean along its axis through a 7x7 convolution; what they let through is averaged. 300 parameters a
stage, whatever its width. The authors report 77.5 % on ImageNet for ResNet-50, 75.4 % without it, once in every block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.attention.gate import SpatiallyGated


class AxisGate(nn.Module):
    """A gate in (0, 1) from what lies along one axis: convolution of (largest, mean) - batch norm - sigmoid."""

    def __init__(self, axis: int, kernel_size: int):
        super().__init__()
        self.axis = axis
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)  # the published code's; the paper does not say

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same with 1 in the place of the axis."""
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
    """Return ``stage`` gated by ``TripletAttention``; how many ``channels`` there are makes no difference."""
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f"attention.wrap.kernel_size must be odd, 1 or more, got {kernel_size}")
    return SpatiallyGated(stage, TripletAttention(kernel_size))
