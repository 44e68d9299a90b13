"""Coordinate Attention for Efficient Mobile Network Design (Hou et al. 2021), https://arxiv.org/abs/2103.02907.

Channel attention that knows rows and columns: the layer averages the map along each axis, squeezes both averages
through one bottleneck, and multiplies every place by a gate of its row and a gate of its column.

It has 3 C m + 2 C + 3 m parameters a stage, m = max(8, C / 32), and takes next to no time. The authors report 74.3 % on
ImageNet for MobileNetV2 with one in every block, 72.3 % without it and 73.5 % with SE.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.attention.gate import SpatiallyGated


class CoordinateAttention(nn.Module):
    """``x * row * column``, each gate a sigmoid.

    Args:
        channels: C. reduction: the bottleneck has C / reduction channels. least: the fewest that it has.
    """

    def __init__(self, channels: int, reduction: int = 32, least: int = 8):
        super().__init__()
        hidden = max(least, channels // reduction)
        # the paper says "batch norm and a non-linear activation"; h-swish and the biases are the published code's
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.Hardswish())
        self.row = nn.Conv2d(hidden, channels, 1)
        self.column = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows = x.mean(3, keepdim=True)  # [B, C, H, 1]
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # [B, C, W, 1]
        rows, columns = self.squeeze(torch.cat((rows, columns), 2)).split((height, width), 2)
        return x * torch.sigmoid(self.row(rows)) * torch.sigmoid(self.column(columns.transpose(2, 3)))


def coord(stage: nn.Module, channels: int, reduction: int = 32, least: int = 8) -> nn.Module:
    """Return ``stage``, its output gated by ``CoordinateAttention``."""
    for name, value in {"reduction": reduction, "least": least}.items():
        if value < 1:
            raise ValueError(f"attention.wrap.{name} must be 1 or more, got {value}")
    return SpatiallyGated(stage, CoordinateAttention(channels, reduction, least))
