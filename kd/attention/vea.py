"""Vision Eagle Attention (Hasan 2024), https://arxiv.org/abs/2411.10564.

A copy of the stage (``glance``) reads the input first, a scan of its output gates the input, and then the stage itself
(``look``) reads the gated input. The copy about doubles the cost of the stages that it is attached to.

On ResNet-18's stem, layer1 and layer2 it is the published network (12,306,057 parameters at 6 classes) without the
11.5 M parameters of the published class that never take part in the forward pass. The author reports 93.30 % on
FashionMNIST from ImageNet weights.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.attention.gate import SpatialGate
from kd.runtime.resampling import resize_bilinear


class Scan(nn.Module):
    """The gate, from the output of the copy: conv 3x3 stride 2 - ReLU - conv 1x1 to one channel - sigmoid.

    Args:
        channels: of the copy's output. hidden: channels between the two convolutions.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 3, stride=2, padding=1)
        self.map = nn.Conv2d(hidden, 1, 1)

    def forward(self, glanced: Tensor, size: tuple[int, int]) -> Tensor:
        """[B, C, h, w] -> gate [B, 1, *size] in (0, 1), resized bilinearly."""
        gate = torch.sigmoid(self.map(F.relu(self.conv(glanced))))
        return resize_bilinear(gate, *size)


class VisionEagle(SpatialGate, nn.Module):
    """``stage(x * scan(glance(x)))``, where ``glance`` is a copy of ``stage`` with its own weights.

    Args:
        stage: the wrapped module. channels: of its output.
        expansion: the scan's hidden channels as a multiple of ``channels``; 2 as published.
    """

    gate = "scan"

    def __init__(self, stage: nn.Module, channels: int, expansion: float = 2.0):
        super().__init__()
        if not expansion > 0:
            raise ValueError(f"attention.wrap.expansion must be above 0, got {expansion}")
        self.glance = copy.deepcopy(stage)
        self.scan = Scan(channels, max(1, round(expansion * channels)))
        self.look = stage

    def forward(self, x: Tensor) -> Tensor:
        return self.look(x * self.scan(self.glance(x), x.shape[-2:]))

    def gate_map(self, before: Tensor, after: Tensor) -> Tensor:
        return after[:, 0]
