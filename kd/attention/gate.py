"""A layer behind a stage, and what every spatial gate tells of itself: how much of each place it lets through."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """``layer(stage(x))``, where ``layer`` keeps the shape of what it gets."""

    def __init__(self, stage: nn.Module, layer: nn.Module):
        super().__init__()
        self.stage = stage
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.stage(x))


class SpatialGate(ABC):
    """Mixed into what stands in a stage's place where it treats places differently; ``maps.py`` shows these.

    ``gate`` names the submodule that is the gate; ``let_through`` reads its input and output.
    """

    gate: str

    @abstractmethod
    def gate_map(self, seen: Tensor, told: Tensor) -> Tensor:
        """The gate's input and output -> [B, h, w]."""


class SpatiallyGated(SpatialGate, Gated):
    """``Gated`` by a layer that treats places differently."""

    gate = "layer"

    def gate_map(self, seen: Tensor, told: Tensor) -> Tensor:
        return rms_ratio(seen, told)


def rms_ratio(before: Tensor, after: Tensor) -> Tensor:
    """RMS over channels of what is left over that of what was there: two [B, C, h, w] -> [B, h, w].

    It is the gate itself where the gate is one number (of either sign: its size) a place. A place that was silent, 0
    in every channel, has share 0.
    """
    before, after = before.float(), after.float()
    was, left = before.square().mean(1).sqrt(), after.square().mean(1).sqrt()
    return torch.where(was > 0, left / was.where(was > 0, torch.ones_like(was)), torch.zeros_like(was))
