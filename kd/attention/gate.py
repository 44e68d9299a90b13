"""A layer after a stage, and spatial gates, which report how much of each place they let through."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """``layer(stage(x))``, where ``layer`` keeps the shape of its input."""

    def __init__(self, stage: nn.Module, layer: nn.Module):
        super().__init__()
        self.stage = stage
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.stage(x))


class SpatialGate(ABC):
    """Mixin for a replacement of a stage that treats places differently; ``kd.attention.maps`` shows its gate.

    ``gate`` names the submodule that is the gate; ``gate_map`` reads the input and output of that submodule.
    """

    gate: str

    @abstractmethod
    def gate_map(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how much of each place passes, [B, h, w], from the gate's input and output."""


class SpatiallyGated(SpatialGate, Gated):
    """``Gated`` with a layer that treats places differently."""

    gate = "layer"

    def gate_map(self, before: Tensor, after: Tensor) -> Tensor:
        return rms_ratio(before, after)


def rms_ratio(before: Tensor, after: Tensor) -> Tensor:
    """Return the RMS over channels after a gate divided by the one before it: two [B, C, h, w] -> [B, h, w].

    Where a gate is one number a place, the ratio is the absolute value of that number. A place that is 0 in every
    channel has ratio 0.
    """
    before, after = before.float().square().mean(1).sqrt(), after.float().square().mean(1).sqrt()
    is_active = before > 0
    return torch.where(is_active, after / before.where(is_active, torch.ones_like(before)), torch.zeros_like(before))
