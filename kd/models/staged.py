"""Base class of the tiny students: stages, a global average pool, dropout, a linear classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from kd.models.chain import Chain, feature_info


class Staged(Chain):
    """A ``Chain`` of stages whose outputs are the maps.

    Args:
        stages: the stages. channels: of the output of each stage.
        reductions: side of the image divided by that of each stage's output.
        num_classes: K. dropout: probability, before the linear layer.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)
        paths = [f"stages.{number}" for number in range(len(stages))]
        self.feature_info = feature_info(*zip(paths, channels, reductions, strict=True))

    def units(self) -> Iterator[tuple[str, nn.Module]]:
        for number, stage in enumerate(self.stages):
            yield f"stages.{number}", stage

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map -> logits [B, K], or the pooled embedding [B, D] with ``pre_logits``."""
        pooled = last.mean((2, 3))
        return pooled if pre_logits else self.classifier(self.dropout(pooled))
