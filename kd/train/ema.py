"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class ModelEma:
    """Exponential moving average of a network, buffers included. The decay starts low and rises to ``decay``."""

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay, self.steps = copy.deepcopy(network), decay, 0
        self._source: nn.Module | None = None

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards ``network``, always the same one: tensors that replace its own go unnoticed."""
        if network is not self._source:  # listing the tensors takes longer than averaging those of a small network
            self._source = network
            mine, new = (list(module.state_dict().values()) for module in (self.network, network))
            pairs = list(zip(mine, new, strict=True))
            self._averaged = [[pair[side] for pair in pairs if pair[0].is_floating_point()] for side in (0, 1)]
            self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(*self._averaged, 1 - decay)
        for mine, new in self._copied:
            mine.copy_(new)
