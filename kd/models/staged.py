"""What the small networks here have in common: stages one after another, a global average pool, a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Staged(nn.Module):
    """The tap methods of ``kd.interfaces`` for a sequence of stages; a map is what comes out of one.

    Args:
        stages: the stages. channels, reductions: of what comes out of each; pixels of the image over those of the map.
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
        self.feature_info = [
            {"num_chs": count, "reduction": reduction, "module": f"stages.{number}"}
            for number, (count, reduction) in enumerate(zip(channels, reductions, strict=True))
        ]
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] -> (last map, [[B, C_i, H_i, W_i] ...])."""
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return image, features

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map -> logits [B, K], or the pooled embedding [B, D] with ``pre_logits``."""
        pooled = last.mean((2, 3))
        return pooled if pre_logits else self.classifier(self.dropout(pooled))

    def forward(self, image: Tensor) -> Tensor:
        for stage in self.stages:
            image = stage(image)
        return self.forward_head(image)


def widened(channels: Sequence[int], width: float) -> list[int]:
    """``width`` times as many channels, at least one each.

    Raises:
        ValueError: a width that is not above 0.
    """
    if width <= 0:
        raise ValueError(f"student.width must be above 0, got {width}")
    return [max(1, round(width * count)) for count in channels]


def enough(image_size: int, least: int, name: str) -> None:
    """Refuse pictures that a network would shrink to nothing.

    Raises:
        ValueError: with what would be right.
    """
    if image_size < least:
        raise ValueError(
            f"{name} halves the image until {least} pixels are one: data.image_size must be {least} or "
            f"more, got {image_size}"
        )
