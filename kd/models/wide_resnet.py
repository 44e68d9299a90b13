"""Wide Residual Networks (Zagoruyko and Komodakis 2016), https://arxiv.org/abs/1605.07146.

They compute the same functions under the same parameter names as wrn_16_1 ... wrn_40_2 of RepDistiller and mdistiller,
so that their checkpoints load. Blocks are pre-activated: the output of a stage is a sum, and the next stage begins with
batch norm and ReLU.

The maps are theirs, f0 ... f2 as sums, except for the last: their f3 is a sum too; here it is the map that the
classifier's pool reads, after the last batch norm and ReLU (the ReLU of the f3 that they return with ``preact=True``).
So the classifier applies to the last map, which kd=simkd and kd=catkd need.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

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


class WideResNet(Chain):
    """A 3x3 stem of 16 channels, then three stages at full, half and quarter size.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 4.
        depth: 6 n + 4, n blocks a stage. widen: multiplies the stages' 16, 32 and 64 channels, and not the stem's.
        dropout: probability, between the two convolutions of a block.
    """

    def __init__(self, num_classes: int, image_size: int, depth: int, widen: float, dropout: float = 0.0):
        super().__init__()
        count, rest = divmod(depth - 4, 6)
        if not 1 <= count <= MAX_BLOCKS or rest:
            raise ValueError(
                f"depth of a wide ResNet must be 6 n + 4 (10, 16, 22, ... {6 * MAX_BLOCKS + 4:,}), got {depth}"
            )
        if not widen > 0:
            raise ValueError(f"widen must be above 0, got {widen}")
        check_image_size(image_size, 4, "a wide ResNet")
        stem, stages, block = 16, scale_channels([16, 32, 64], widen), partial(Block, dropout=dropout)
        self.conv1 = conv(3, stem, 3)
        self.block1 = _layer(make_stage(block, stem, stages[0], count, 1))
        self.block2 = _layer(make_stage(block, stages[0], stages[1], count, 2))
        self.block3 = _layer(make_stage(block, stages[1], stages[2], count, 2))
        self.bn1, self.relu = nn.BatchNorm2d(stages[2]), nn.ReLU()
        self.fc = nn.Linear(stages[2], num_classes)
        self.feature_info = feature_info(
            ("conv1", stem, 1), ("block1", stages[0], 1), ("block2", stages[1], 2), ("relu", stages[2], 4)
        )
        init_weights(self)
        nn.init.zeros_(self.fc.bias)


class Block(nn.Module):
    """``conv(relu(bn(conv(relu(bn(x)))))) + x``; where shapes change, a 1x1 convolution of ``relu(bn(x))`` for x."""

    def __init__(self, inside: int, outside: int, stride: int, dropout: float):
        super().__init__()
        self.bn1, self.relu1, self.conv1 = nn.BatchNorm2d(inside), nn.ReLU(), conv(inside, outside, 3, stride)
        self.bn2, self.relu2, self.conv2 = nn.BatchNorm2d(outside), nn.ReLU(), conv(outside, outside, 3)
        self.dropout = nn.Dropout(dropout)
        self.convShortcut = None if stride == 1 and inside == outside else conv(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        inner = self.dropout(self.relu2(self.bn2(self.conv1(active))))
        return self.conv2(inner) + (x if self.convShortcut is None else self.convShortcut(active))


def _layer(blocks: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layer=blocks))  # the name in published checkpoints
