"""VGG for CIFAR: Very Deep Convolutional Networks (Simonyan and Zisserman 2015), https://arxiv.org/abs/1409.1556.

They compute the same functions under the same parameter names as vgg8 ... vgg19 of RepDistiller and mdistiller, which
have batch norm and one linear layer, so that their checkpoints load; the maps are theirs too, f0 ... f4. Of the paper's
five max-pools they have three, and a fourth from 64 pixels on; those repositories have the fourth at exactly 64 pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from kd.models.chain import MAX_BLOCKS, Chain, check_image_size, feature_info, init_weights, scale_channels

LARGE_IMAGE = 64  # pixels: from here on a max-pool precedes the last stage too


class CifarVGG(Chain):
    """Five stages of 3x3 convolutions, each with bias, batch norm and ReLU; 64 to 512 channels.

    Args:
        num_classes: K. image_size: side of the square input in pixels, at least 8.
        convolutions: of each stage. width: multiplies every channel count.
    """

    def __init__(self, num_classes: int, image_size: int, convolutions: Sequence[int], width: float = 1.0):
        super().__init__()
        if len(convolutions) != 5 or not 1 <= min(convolutions) <= max(convolutions) <= MAX_BLOCKS:
            raise ValueError(f"convolutions must be five numbers, 1 to {MAX_BLOCKS} a stage, got {convolutions}")
        check_image_size(image_size, 8, "a CIFAR VGG")
        channels = scale_channels([64, 128, 256, 512, 512], width)
        pools = (False, True, True, True, image_size >= LARGE_IMAGE)
        for number, (i, o) in enumerate(zip([3, *channels], channels, strict=False)):
            setattr(self, f"block{number}", stage(i, o, convolutions[number], pools[number]))
        self.classifier = nn.Linear(channels[-1], num_classes)
        self.feature_info = feature_info(
            *((f"block{number}", count, 2 ** sum(pools[: number + 1])) for number, count in enumerate(channels))
        )
        init_weights(self, linear=0.01)


def stage(inside: int, outside: int, count: int, pool: bool) -> nn.Sequential:
    """Return ``count`` convolutions with batch norm and ReLU, with or without a max-pool before them.

    The pool has a name and the others have numbers, so that the first convolution is 0 in both cases.
    """
    layers = OrderedDict(pool=nn.MaxPool2d(2)) if pool else OrderedDict()
    for number in range(count):
        layers[f"{3 * number}"] = nn.Conv2d(inside if number == 0 else outside, outside, 3, padding=1)
        layers[f"{3 * number + 1}"] = nn.BatchNorm2d(outside)
        layers[f"{3 * number + 2}"] = nn.ReLU()
    return nn.Sequential(layers)
