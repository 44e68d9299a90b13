"""A tiny network of inverted residuals: MobileNetV2 (Sandler et al. 2018), https://arxiv.org/abs/1801.04381.

It is made for photographs of about 100 pixels a side: the stem halves the image, so that 32 convolutions cost half the
multiply-accumulates of ``tiny_resnet``'s eleven, and a fifth of those of ``tiny_cnn``'s three.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from kd.models.chain import MAX_BLOCKS, check_image_size, conv, make_stage, scale_channels
from kd.models.cifar_mobilenet_v2 import InvertedResidual
from kd.models.staged import Staged


class TinyMobileNet(Staged):
    """A stem at stride 2, then four stages of inverted residuals, then a 1x1 convolution that the pool reads.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 16 (four halvings).
        width: multiplies every channel count; 0.25 ... 4 is the useful range.
        depth: blocks of each stage.
        expansion: channels inside a block divided by its input channels; 1 in the first stage.
        dropout: probability, before the linear layer.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        width: float = 1.0,
        depth: Sequence[int] = (1, 3, 4, 2),
        expansion: int = 4,
        dropout: float = 0.0,
    ):
        if not isinstance(depth, Sequence) or len(depth) != 4 or not 1 <= min(depth) <= max(depth) <= MAX_BLOCKS:
            raise ValueError(f"depth of tiny_mobilenet must be four numbers of blocks, 1 to {MAX_BLOCKS}, got {depth}")
        if expansion < 1:
            raise ValueError(f"expansion of tiny_mobilenet must be 1 or more, got {expansion}")
        check_image_size(image_size, 16, "tiny_mobilenet")
        channels = scale_channels([16, 16, 24, 32, 52, 128], width)
        stages = [nn.Sequential(conv(3, channels[0], 3, 2), nn.BatchNorm2d(channels[0]), nn.ReLU())]
        shapes = zip(channels, channels[1:], depth, (1, 2, 2, 2), (1, *[expansion] * 3), strict=False)
        for i, o, count, stride, ratio in shapes:
            stages.append(make_stage(partial(InvertedResidual, expansion=ratio), i, o, count, stride))
        last = nn.Sequential(conv(channels[-2], channels[-1]), nn.BatchNorm2d(channels[-1]), nn.ReLU())
        super().__init__([*stages, last], channels, [2, 2, 4, 8, 16, 16], num_classes, dropout)
