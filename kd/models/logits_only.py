"""Base class of networks with logits alone: an ensemble, or an exported program."""

from __future__ import annotations

from torch import Tensor, nn


class LogitsOnly(nn.Module):
    """A network without maps and embedding; it returns its logits in place of the last map."""

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] -> (logits [B, K], no maps)."""
        return self(image), []

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor | None:
        return None if pre_logits else last
