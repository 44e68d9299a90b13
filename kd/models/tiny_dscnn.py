"""A tiny network of depthwise separable convolutions: MobileNets (Howard et al. 2017), https://arxiv.org/abs/1704.04861.

With as many parameters as ``tiny_cnn`` it has 13 convolutions instead of three, because it has a 3x3 filter for each
channel and not for each pair of channels.
"""

from __future__ import annotations

from torch import nn

from kd.models.chain import MAX_BLOCKS, check_image_size, conv, scale_channels
from kd.models.staged import Staged


class TinyDSCNN(Staged):
    """A full convolution, then three stages of a max-pool and ``depth`` separable convolutions.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8 (three halvings).
        width: multiplies every channel count; 0.25 ... 4 is the useful range.
        depth: separable convolutions a stage.
        dropout: probability, before the linear layer.
    """

    def __init__(self, num_classes: int, image_size: int, width: float = 1.0, depth: int = 2, dropout: float = 0.0):
        if not 1 <= depth <= MAX_BLOCKS:
            raise ValueError(f"depth of tiny_dscnn must be 1 to {MAX_BLOCKS}, got {depth}")
        check_image_size(image_size, 8, "tiny_dscnn")
        channels = scale_channels([32, 64, 120, 184], width)
        stages = [nn.Sequential(conv(3, channels[0], 3), *_normed(channels[0]))]
        for i, o in zip(channels, channels[1:], strict=False):
            layers = [separable(i if k == 0 else o, o) for k in range(depth)]
            stages.append(nn.Sequential(nn.MaxPool2d(2), *layers))
        super().__init__(stages, channels, [1, 2, 4, 8], num_classes, dropout)


def separable(i: int, o: int) -> nn.Sequential:
    """Return a depthwise 3x3 convolution and a 1x1 convolution, each with batch norm and ReLU."""
    return nn.Sequential(conv(i, i, 3, groups=i), *_normed(i), conv(i, o), *_normed(o))


def _normed(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()
