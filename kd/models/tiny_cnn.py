"""The student with about 94,000 parameters: (Conv 3x3 - BN - MaxPool - ReLU) x 3, global average pool, dropout, linear.

It has 94,470 parameters at width 1 and 6 classes, 0.37 MB, and costs 23 M multiply-accumulates for an image of 48x48.
"""

from __future__ import annotations

from torch import nn

from kd.models.chain import check_image_size, scale_channels
from kd.models.staged import Staged


class TinyCNN(Staged):
    """``depth`` convolutions of ``width`` x (32, 64, 128, 256 ...) channels.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 2^depth.
        width: multiplies every channel count; 0.25 ... 4 is the useful range.
        depth: stages, each with one convolution that doubles the channels and a max-pool that halves the image.
        dropout: probability, before the linear layer.
    """

    def __init__(self, num_classes: int, image_size: int, width: float = 1.0, depth: int = 3, dropout: float = 0.0):
        if not 1 <= depth <= 8:
            raise ValueError(f"depth of tiny_cnn must be 1 to 8, got {depth}")
        check_image_size(image_size, 2**depth, "tiny_cnn")
        channels = scale_channels([32 * 2**stage for stage in range(depth)], width)
        # ReLU after the max-pool: the same values and gradients to the bit, for a quarter of the work
        stages = [
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.MaxPool2d(2), nn.ReLU())
            for i, o in zip([3, *channels], channels, strict=False)
        ]
        super().__init__(stages, channels, [2 ** (k + 1) for k in range(depth)], num_classes, dropout)
