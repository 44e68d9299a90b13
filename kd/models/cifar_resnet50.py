"""ResNet-50 for CIFAR: Deep Residual Learning (He et al. 2016), https://arxiv.org/abs/1512.03385.

It computes the same function under the same parameter names as ResNet50 in resnetv2.py of RepDistiller and mdistiller,
the teacher of their MobileNetV2 and vgg8, so that their checkpoints load; the maps are theirs too, f0 ... f4. It is the
paper's ImageNet network with a 3x3 stem at stride 1, no max-pool, and the stride on the 3x3 convolution of a block. It
costs 1.3 G multiply-accumulates for an image of 32 x 32: a teacher rather than a student.
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
from kd.models.cifar_resnet import shortcut

EXPANSION = 4  # output channels of a block divided by its inner channels


class CifarResNet50(Chain):
    """A 3x3 stem, then four stages of bottleneck blocks at full, half, quarter and eighth size.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8.
        blocks: of each stage; (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) is ResNet-101.
        width: multiplies every channel count.
    """

    def __init__(self, num_classes: int, image_size: int, blocks: Sequence[int] = (3, 4, 6, 3), width: float = 1.0):
        super().__init__()
        if len(blocks) != 4 or not 1 <= min(blocks) <= max(blocks) <= MAX_BLOCKS:
            raise ValueError(f"blocks must be four numbers, 1 to {MAX_BLOCKS} blocks a stage, got {blocks}")
        check_image_size(image_size, 8, "resnet50_cifar")
        stem, *stages = scale_channels([64, 64, 128, 256, 512], width)
        stages = [EXPANSION * channels for channels in stages]
        self.conv1, self.bn1, self.relu = conv(3, stem, 3), nn.BatchNorm2d(stem), nn.ReLU()
        self.layer1 = make_stage(Bottleneck, stem, stages[0], blocks[0], 1)
        self.layer2 = make_stage(Bottleneck, stages[0], stages[1], blocks[1], 2)
        self.layer3 = make_stage(Bottleneck, stages[1], stages[2], blocks[2], 2)
        self.layer4 = make_stage(Bottleneck, stages[2], stages[3], blocks[3], 2)
        self.linear = nn.Linear(stages[3], num_classes)
        self.feature_info = feature_info(
            ("relu", stem, 1), *((f"layer{n + 1}", channels, 2**n) for n, channels in enumerate(stages))
        )
        init_weights(self)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the 3x3 one at a quarter of the channels, and the shortcut."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        between = outside // EXPANSION
        self.conv1, self.bn1 = conv(inside, between), nn.BatchNorm2d(between)
        self.conv2, self.bn2 = conv(between, between, 3, stride), nn.BatchNorm2d(between)
        self.conv3, self.bn3 = conv(between, outside), nn.BatchNorm2d(outside)
        self.shortcut = shortcut(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.shortcut(x))
