"""What shows nothing but its answer: several networks as one, or a program whose inside nobody knows."""

from __future__ import annotations

from torch import Tensor, nn


class LogitsOnly(nn.Module):
    """The tap methods of ``kd.interfaces``; the logits stand in for the last map that there is not."""

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] -> (logits [B, K], no maps)."""
        return self(image), []

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor | None:
        return None if pre_logits else last
