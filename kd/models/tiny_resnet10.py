"""A tiny ResNet-10 for photographs: Deep Residual Learning for Image Recognition (He et al. 2016),
https://arxiv.org/abs/1512.03385.

It has the layout of ResNet-18 with one block in each of the four stages, and a 3x3 stem at stride 2 without a max-pool.
So it works at half the size of the image and smaller: at 100 pixels it costs half the multiply-accumulates of
``tiny_resnet`` and a quarter of those of ``tiny_cnn``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kd.models.chain import MAX_BLOCKS, check_image_size, conv, make_stage, scale_channels
from kd.models.cifar_resnet import Block
from kd.models.staged import Staged


class TinyResNet10(Staged):
    """A stem at stride 2, then four stages of residual blocks of two convolutions.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 16 (four halvings).
        width: multiplies every channel count; 0.25 ... 4 is the useful range.
        depth: blocks of each stage; 1 everywhere is what the name says.
        dropout: probability, before the linear layer.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        width: float = 1.0,
        depth: Sequence[int] = (1, 1, 1, 1),
        dropout: float = 0.0,
    ):
        if not isinstance(depth, Sequence) or len(depth) != 4 or not 1 <= min(depth) <= max(depth) <= MAX_BLOCKS:
            raise ValueError(f"depth of tiny_resnet10 must be four numbers of blocks, 1 to {MAX_BLOCKS}, got {depth}")
        check_image_size(image_size, 16, "tiny_resnet10")
        channels = scale_channels([16, 16, 24, 40, 60], width)
        stem = nn.Sequential(conv(3, channels[0], 3, 2), nn.BatchNorm2d(channels[0]), nn.ReLU())
        shapes = zip(channels, channels[1:], depth, (1, 2, 2, 2), strict=False)
        stages = [stem, *(make_stage(Block, i, o, count, stride) for i, o, count, stride in shapes)]
        super().__init__(stages, channels, [2, 2, 4, 8, 16], num_classes, dropout)
