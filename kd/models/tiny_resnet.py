"""A tiny residual network: Deep Residual Learning for Image Recognition (He et al. 2016), https://arxiv.org/abs/1512.03385.

As the paper's networks for CIFAR, which pass maps at full size through the first stage, but with a max-pool behind the
stem, so that a photograph costs a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.chain import enough, widened
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
        if not isinstance(depth, Sequence) or len(depth) != 3 or min(depth) < 1:
            raise ValueError(f"student.depth of tiny_resnet must be three numbers of blocks, 1 or more, got {depth}")
        enough(image_size, 8, "tiny_resnet")
        channels = widened([16, 16, 32, 64], width)
        stem = [nn.Conv2d(3, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()]
        stages = [nn.Sequential(*stem, nn.MaxPool2d(2))]
        for number, (i, o, count) in enumerate(zip(channels, channels[1:], depth, strict=False)):
            stride = 1 if number == 0 else 2
            stages.append(nn.Sequential(*(Block(i if k == 0 else o, o, stride if k == 0 else 1) for k in range(count))))
        super().__init__(stages, channels, [2, 2, 4, 8], num_classes, dropout)


class Block(nn.Module):
    """``relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))``; the shortcut is a 1x1 convolution where shapes change."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        same = i == o and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
