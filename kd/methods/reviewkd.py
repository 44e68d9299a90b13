"""Distilling Knowledge via Knowledge Review (Chen, Liu, Zhao, Jia, CVPR 2021), https://arxiv.org/abs/2104.09044.

The method fuses the student's embedding and maps from the deepest to the shallowest: a learned attention (ABF) combines
each map with the fused map above it. The loss compares every fused map with the teacher's map of that depth at several
resolutions (HCL). Costs a 1x1 and a 3x3 convolution a stage, often more than a small student itself; they are not
deployed.

The paper reads maps before the ReLU; here a map is the output of the network's stage, for most networks after the ReLU.
The width of the fused maps is min(512, the width of the student's last map) in the authors' code and always 512 in
mdistiller, whatever its setting; here it is ``channels``. If the teacher's map is the smaller one, as in none of the
published pairs, the fused map is average-pooled instead of sampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_embedding, conv_norm, paired_maps, pool_to
from kd.runtime.resampling import average_pool


def hierarchical_context_loss(student: Tensor, teacher: Tensor, levels: Sequence[int] = (4, 2, 1)) -> Tensor:
    """Return HCL, a scalar: the mean of squared differences at full size and pooled, with weights 1, 1/2, 1/4, ...

    The weights are divided by their sum. A level that is not smaller than the map is left out, and so is its weight.

    Args:
        student, teacher: [B, C, H, W], of one shape.
        levels: sides in pixels that the maps are average-pooled to.
    """
    apart = student - teacher  # pooling is linear: one pool does for both
    weight, weights, loss = 1.0, 1.0, apart.square().mean()
    for level in levels:
        if level < min(apart.shape[-2:]):
            weight /= 2
            weights += weight
            loss = loss + weight * average_pool(apart, level, level).square().mean()
    return loss / weights


class Fusion(nn.Module):
    """Attention-based fusion (ABF) of a map of the student with the fused map above it.

    Args:
        inside, outside: channels of the student's map, and of the teacher's. channels: of the fused map.
        is_first: the first of the chain, with no fused map above.
    """

    def __init__(self, inside: int, channels: int, outside: int, is_first: bool):
        super().__init__()
        self.enter, self.leave = conv_norm(inside, channels), conv_norm(channels, outside, 3)
        self.attention = None if is_first else nn.Conv2d(2 * channels, 2, 1)
        for convolution in (self.enter[0], self.leave[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, x: Tensor, above: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return ([B, outside, *size] for the comparison, [B, channels, H, W] for the next fusion).

        Args:
            x: [B, inside, H, W]. above: [B, channels, h, w]. size: height and width of the teacher's map.
        """
        fused = self.enter(x)
        if self.attention is not None:
            above = _resize(above, fused.shape[-2:])
            own, other = torch.sigmoid(self.attention(torch.cat([fused, above], 1))).split(1, 1)
            fused = own * fused + other * above
        return self.leave(_resize(fused, size)), fused


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat pixels where a side grows, average them where it shrinks."""
    height, width = (min(sides) for sides in zip(x.shape[-2:], size, strict=True))
    x = pool_to(x, height, width)
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, tuple(size), mode="nearest")


class ReviewKD(nn.Module):
    """HCL between fused maps of the student and maps of the teacher, summed over stages; the embedding is the deepest.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
        channels: of the fused maps. levels: of HCL, in pixels.
    """

    needs = frozenset({"features", "embedding"})

    def __init__(self, stages: Sequence[int] | None = None, channels: int = 64, levels: Sequence[int] = (4, 2, 1)):
        super().__init__()
        if channels < 1:
            raise ValueError(f"kd.channels is the width of the fused maps and must be at least 1, got {channels}")
        if not all(1 <= level <= 1024 for level in levels):
            raise ValueError(f"kd.levels are sides in pixels and must be 1 to 1,024, got {list(levels)}")
        self.stages, self.channels, self.levels = stages, channels, list(levels)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        self.fusions = nn.ModuleList(
            Fusion(own.shape[1], self.channels, given.shape[1], is_first=depth == 0)
            for depth, (own, given) in enumerate(self._chain(student, teacher))
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        fused, loss = None, 0.0
        for fusion, (own, given) in zip(self.fusions, self._chain(student, teacher), strict=True):
            compared, fused = fusion(own, fused, given.shape[-2:])
            loss = loss + hierarchical_context_loss(compared, given, self.levels)
        return loss

    def _chain(self, student: Outputs, teacher: Outputs | None) -> list[tuple[Tensor, Tensor]]:
        """Return the embeddings as maps of one pixel, then the pairs of maps, deep to shallow."""
        maps = paired_maps(student, teacher, self.stages)
        check_embedding(teacher, "kd=reviewkd")
        return [(student.embedding[..., None, None], teacher.embedding[..., None, None]), *reversed(maps)]
