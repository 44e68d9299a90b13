"""MobileNetV2 for CIFAR (Sandler et al. 2018), https://arxiv.org/abs/1801.04381.

It computes the same function under the same parameter names as MobileNetV2 (mobile_half) in RepDistiller and
mdistiller, so that their checkpoints load. It differs from the paper: ReLU instead of ReLU6, no stride in the second
row of blocks, and channels that are not rounded to multiples of eight. It has 0.81 M parameters at 100 classes, two
fifths of them in the last convolution and the classifier.

The maps are theirs, f0 ... f3, all but f0 without an activation. The last map is not f4 with its 160 channels: it is
the output of the 1x1 convolution after f4, whose 1280 channels the classifier's pool reads. So the classifier applies
to the last map, which kd=simkd and kd=catkd need.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from kd.models.chain import Chain, check_image_size, conv, feature_info, init_weights, make_stage, scale_channels

# channels, blocks and the stride of the first one
ROWS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
LAST = 1280  # channels that the pool reads, at every width up to 1


class CifarMobileNetV2(Chain):
    """A 3x3 stem at stride 2, seven rows of inverted residuals, and a 1x1 convolution: a sixteenth of the size.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 16.
        width: multiplies the output channels of blocks; above 1 also those that the pool reads.
        expansion: channels inside a block divided by its input channels; 1 in the first block.
    """

    def __init__(self, num_classes: int, image_size: int, width: float = 0.5, expansion: int = 6):
        super().__init__()
        if expansion < 1:
            raise ValueError(f"expansion must be 1 or more, got {expansion}")
        check_image_size(image_size, 16, "a CIFAR MobileNetV2")
        stem, *channels = scale_channels([32, *(each for each, _, _ in ROWS)], width)
        (last,) = scale_channels([LAST], max(1.0, width))
        self.conv1 = _activated(conv(3, stem, 3, 2))
        self.blocks = nn.ModuleList()
        inside = stem
        for outside, (_, count, stride) in zip(channels, ROWS, strict=True):
            block = partial(InvertedResidual, expansion=expansion if len(self.blocks) else 1)
            self.blocks.append(make_stage(block, inside, outside, count, stride))
            inside = outside
        self.conv2 = _activated(conv(channels[-1], last))
        self.classifier = nn.Sequential(nn.Linear(last, num_classes))
        self.feature_info = feature_info(
            ("conv1", stem, 2),
            ("blocks.1", channels[1], 2),
            ("blocks.2", channels[2], 4),
            ("blocks.4", channels[4], 8),
            ("conv2", last, 16),
        )
        init_weights(self, linear=0.01)


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise 3x3 convolution, 1x1 convolution back, without an activation.

    The block adds its input where the shapes are equal.
    """

    def __init__(self, inside: int, outside: int, stride: int, expansion: int):
        super().__init__()
        between = inside * expansion
        self.conv = nn.Sequential(
            *_activated(conv(inside, between)),
            *_activated(conv(between, between, 3, stride, groups=between)),
            conv(between, outside),
            nn.BatchNorm2d(outside),
        )
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


def _activated(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
