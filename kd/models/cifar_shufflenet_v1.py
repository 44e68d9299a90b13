"""ShuffleNet for CIFAR (Zhang et al. 2018), https://arxiv.org/abs/1707.01083.

It computes the same function under the same parameter names as ShuffleV1, three groups, in RepDistiller and mdistiller,
so that their checkpoints load; the maps are theirs too, f0 ... f3. It differs from the paper: the stem is a 1x1
convolution at stride 1 without max-pool, a ReLU follows the 3x3 convolution of a block, and the inner channels of a
block that shrinks are a quarter of the channels that it adds, not of its output. It has 0.95 M parameters at 100
classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.chain import Chain, check_image_size, conv, feature_info, make_stage, scale_channels

STEM, GROUPS = 24, 3
BLOCKS = (4, 8, 4)


class CifarShuffleNetV1(Chain):
    """A 1x1 stem, then three stages of grouped bottlenecks at half, quarter and eighth size.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8.
        width: multiplies the stages' 240, 480 and 960 channels, in steps of 12, and not the stem's 24.
    """

    def __init__(self, num_classes: int, image_size: int, width: float = 1.0):
        super().__init__()
        check_image_size(image_size, 8, "a CIFAR ShuffleNet")
        step = 4 * GROUPS  # a quarter of the channels must divide into groups, also without the stem's
        channels = [
            max(step * count, STEM + step) for count in scale_channels([240 // step, 480 // step, 960 // step], width)
        ]
        self.conv1, self.bn1, self.relu = conv(3, STEM), nn.BatchNorm2d(STEM), nn.ReLU()
        self.layer1 = make_stage(Bottleneck, STEM, channels[0], BLOCKS[0], 2)
        self.layer2 = make_stage(Bottleneck, channels[0], channels[1], BLOCKS[1], 2)
        self.layer3 = make_stage(Bottleneck, channels[1], channels[2], BLOCKS[2], 2)
        self.linear = nn.Linear(channels[2], num_classes)
        self.feature_info = feature_info(
            ("relu", STEM, 1), ("layer1", channels[0], 2), ("layer2", channels[1], 4), ("layer3", channels[2], 8)
        )


class Bottleneck(nn.Module):
    """Grouped 1x1 convolution, shuffle, depthwise 3x3 convolution, grouped 1x1 convolution.

    The block adds the result to its input; at stride 2 it concatenates it with the average-pooled input.
    """

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.shrinks = stride == 2
        outside -= inside if self.shrinks else 0
        between = outside // 4
        self.groups = 1 if inside == STEM else GROUPS  # too few channels for groups, as published
        self.conv1, self.bn1 = conv(inside, between, groups=self.groups), nn.BatchNorm2d(between)
        self.conv2, self.bn2 = conv(between, between, 3, stride, groups=between), nn.BatchNorm2d(between)
        self.conv3, self.bn3 = conv(between, outside, groups=GROUPS), nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        inner = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        inner = F.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        if self.shrinks:
            return F.relu(torch.cat([inner, F.avg_pool2d(x, 3, stride=2, padding=1)], 1))
        return F.relu(inner + x)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Order the channels across groups, all first ones, then all second ones: [B, g n, H, W] -> [B, n g, H, W]."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
