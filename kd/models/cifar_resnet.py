"""ResNets for CIFAR: Deep Residual Learning (He et al. 2016), https://arxiv.org/abs/1512.03385.

They compute the same functions under the same parameter names as resnet8 ... resnet110, resnet8x4 and resnet32x4 in
RepDistiller and mdistiller, on which KD papers compare, so that their checkpoints load; the maps are theirs too, f0 ...
f3. They differ from the paper where shapes change: the shortcut is a 1x1 convolution with batch norm, and padding with
zeros in the paper. As in those repositories, the 4 of resnet8x4 means four times the channels in each stage but twice
in the stem, hence ``channels`` and not ``width``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.chain import (
    MAX_BLOCKS,
    Chain,
    check_image_size,
    conv,
    feature_info,
    init_weights,
    make_stage,
    scale_channels,
)


class CifarResNet(Chain):
    """A 3x3 stem, then three stages of residual blocks at full, half and quarter size.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 4.
        depth: number of layers with weights on the way of an image: 6 n + 2, n blocks a stage.
        channels: of the stem and of the three stages. width: multiplies all of them.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        depth: int,
        channels: Sequence[int] = (16, 16, 32, 64),
        width: float = 1.0,
    ):
        super().__init__()
        count, rest = divmod(depth - 2, 6)
        if not 1 <= count <= MAX_BLOCKS or rest:
            raise ValueError(
                f"depth of a CIFAR ResNet must be 6 n + 2 (8, 14, 20, ... {6 * MAX_BLOCKS + 2:,}), got {depth}"
            )
        if len(channels) != 4:
            raise ValueError(f"channels must be four numbers, of the stem and three stages, got {channels}")
        check_image_size(image_size, 4, "a CIFAR ResNet")
        stem, *stages = scale_channels(channels, width)
        self.conv1, self.bn1, self.relu = conv(3, stem, 3), nn.BatchNorm2d(stem), nn.ReLU()
        self.layer1 = make_stage(Block, stem, stages[0], count, 1)
        self.layer2 = make_stage(Block, stages[0], stages[1], count, 2)
        self.layer3 = make_stage(Block, stages[1], stages[2], count, 2)
        self.fc = nn.Linear(stages[2], num_classes)
        self.feature_info = feature_info(
            ("relu", stem, 1), ("layer1", stages[0], 1), ("layer2", stages[1], 2), ("layer3", stages[2], 4)
        )
        init_weights(self)


class Block(nn.Module):
    """``relu(bn(conv(relu(bn(conv(x))))) + downsample(x))``."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inside, outside, 3, stride), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = conv(outside, outside, 3), nn.BatchNorm2d(outside)
        self.downsample = shortcut(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


def shortcut(inside: int, outside: int, stride: int) -> nn.Sequential:
    """Return the shortcut of a block: the identity, or a 1x1 convolution and batch norm where shapes change."""
    if stride == 1 and inside == outside:
        return nn.Sequential()
    return nn.Sequential(conv(inside, outside, 1, stride), nn.BatchNorm2d(outside))
