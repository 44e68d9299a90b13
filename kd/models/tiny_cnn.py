"""The ~94 K-parameter student: (Conv 3x3 - BN - ReLU - MaxPool) x 3, global average pool, dropout, linear.

94,470 parameters at width 1 and 6 classes, 0.37 MB. At 48x48 it costs 23 M multiply-accumulates an image.
"""

from __future__ import annotations

from torch import Tensor, nn


class TinyCNN(nn.Module):
    """Three convolutions of ``width`` x (32, 64, 128) channels.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8 (three halvings).
        width: multiplies every channel count; 0.25 ... 4 is the useful range.
        dropout: probability, before the linear layer.
    """

    def __init__(self, num_classes: int, image_size: int, width: float = 1.0, dropout: float = 0.0):
        super().__init__()
        if width <= 0:
            raise ValueError(f"student.width must be above 0, got {width}")
        if image_size < 8:
            raise ValueError(
                f"tiny_cnn halves the image three times: data.image_size must be 8 or more, got {image_size}"
            )
        channels = [3, *(max(1, round(width * base)) for base in (32, 64, 128))]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
            for i, o in zip(channels, channels[1:], strict=False)
        )
        self.feature_info = [
            {"num_chs": o, "reduction": 2 ** (i + 1), "module": f"stages.{i}"} for i, o in enumerate(channels[1:])
        ]
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] -> (last map, [[B, C_i, H / 2^i, W / 2^i] ...])."""
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
