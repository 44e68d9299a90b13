"""A network for other classes than the data's: the logits of the data's classes are picked, in the data's order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PickClasses(nn.Module):
    """Pick logits by position: [B, M] -> [B, K].

    It has no state in a checkpoint: the positions come from the file of class names.

    Args:
        positions: K different positions in [0, M).
    """

    def __init__(self, positions: Sequence[int]):
        super().__init__()
        self.register_buffer("positions", torch.tensor(positions, dtype=torch.int64), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return logits.index_select(-1, self.positions)
