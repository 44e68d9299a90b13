"""ShuffleNetV2 for CIFAR (Ma et al. 2018), https://arxiv.org/abs/1807.11164.

It computes the same function under the same parameter names as ShuffleV2 at width 1 in RepDistiller and mdistiller, so
that their checkpoints load. It differs from the paper: the stem is a 1x1 convolution at stride 1 without max-pool. It
has 1.36 M parameters at 100 classes.

The maps are theirs, f0 ... f2. The last map is not f3 with its 464 channels: it is the output of the 1x1 convolution
after f3, whose 1024 channels the classifier's pool reads. So the classifier applies to the last map, which kd=simkd and
kd=catkd need.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.chain import Chain, check_image_size, conv, feature_info
from kd.models.cifar_shufflenet_v1 import shuffle

STEM = 24
BLOCKS = (4, 8, 4)
CHANNELS = {  # the paper's, of three stages and before the pool; RepDistiller has 224 for 244
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


class CifarShuffleNetV2(Chain):
    """A 1x1 stem, three stages at half, quarter and eighth size, and a 1x1 convolution.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8.
        width: which of the paper's channel counts, 0.5, 1, 1.5 or 2.
    """

    def __init__(self, num_classes: int, image_size: int, width: float = 1.0):
        super().__init__()
        if width not in CHANNELS:
            raise ValueError(f"width of shufflenetv2 must be one of {', '.join(map(str, CHANNELS))}, got {width}")
        check_image_size(image_size, 8, "a CIFAR ShuffleNetV2")
        *channels, last = CHANNELS[width]
        self.conv1, self.bn1, self.relu = conv(3, STEM), nn.BatchNorm2d(STEM), nn.ReLU()
        self.layer1 = _stage(STEM, channels[0], BLOCKS[0])
        self.layer2 = _stage(channels[0], channels[1], BLOCKS[1])
        self.layer3 = _stage(channels[1], channels[2], BLOCKS[2])
        self.conv2, self.bn2, self.relu2 = conv(channels[2], last), nn.BatchNorm2d(last), nn.ReLU()
        self.linear = nn.Linear(last, num_classes)
        self.feature_info = feature_info(
            ("relu", STEM, 1), ("layer1", channels[0], 2), ("layer2", channels[1], 4), ("relu2", last, 8)
        )


class Block(nn.Module):
    """Half of the channels pass unchanged, the others through 1x1, depthwise 3x3 and 1x1; then a shuffle of both."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, 3, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        kept, x = x.chunk(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = F.relu(self.bn3(self.conv3(x)))
        return shuffle(torch.cat([kept, x], 1), 2)


class Down(nn.Module):
    """Two branches at stride 2, each from the whole input to half of the channels; then a shuffle of both."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        half = outside // 2
        self.conv1, self.bn1 = conv(inside, inside, 3, 2, groups=inside), nn.BatchNorm2d(inside)
        self.conv2, self.bn2 = conv(inside, half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(inside, half), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = conv(half, half, 3, 2, groups=half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = conv(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        x = F.relu(self.bn3(self.conv3(x)))
        x = self.bn4(self.conv4(x))
        right = F.relu(self.bn5(self.conv5(x)))
        return shuffle(torch.cat([left, right], 1), 2)


def _stage(inside: int, outside: int, count: int) -> nn.Sequential:
    return nn.Sequential(Down(inside, outside), *(Block(outside) for _ in range(count - 1)))
