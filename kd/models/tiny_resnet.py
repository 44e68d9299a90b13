"""A tiny residual network: Deep Residual Learning for Image Recognition (He et al. 2016), https://arxiv.org/abs/1512.03385.

It is like the paper's networks for CIFAR, whose first stage works at full size, but with a max-pool after the stem, so
that a photograph costs a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kd.models.chain import MAX_BLOCKS, check_image_size, conv, make_stage, scale_channels
from kd.models.cifar_resnet import Block
from kd.models.staged import Staged


class TinyResNet(Staged):
    """A stem, then three stages of residual blocks of two convolutions.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8 (three halvings).
        width: multiplies every channel count; 0.25 ... 4 is the useful range.
        depth: blocks of each stage.
        dropout: probability, before the linear layer.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        width: float = 1.0,
        depth: Sequence[int] = (1, 2, 1),
        dropout: float = 0.0,
    ):
        if not isinstance(depth, Sequence) or len(depth) != 3 or not 1 <= min(depth) <= max(depth) <= MAX_BLOCKS:
            raise ValueError(f"depth of tiny_resnet must be three numbers of blocks, 1 to {MAX_BLOCKS}, got {depth}")
        check_image_size(image_size, 8, "tiny_resnet")
        channels = scale_channels([16, 16, 32, 64], width)
        stem = nn.Sequential(conv(3, channels[0], 3), nn.BatchNorm2d(channels[0]), nn.ReLU(), nn.MaxPool2d(2))
        shapes = zip(channels, channels[1:], depth, (1, 2, 2), strict=False)
        stages = [stem, *(make_stage(Block, i, o, count, stride) for i, o, count, stride in shapes)]
        super().__init__(stages, channels, [2, 2, 4, 8], num_classes, dropout)
