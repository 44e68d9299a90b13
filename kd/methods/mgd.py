"""Masked Generative Distillation (Yang, Li, Shao, Shi, Yuan, Yuan, ECCV 2022), https://arxiv.org/abs/2205.01529.

The method sets a random part of the student's last map to 0, and two 3x3 convolutions generate the teacher's whole map
from the rest. Costs these convolutions, 18 C^2 weights for C channels of the teacher (4.7 M at 512): in training they
can be larger than a small student; they are not deployed.

The loss is the sum of squared differences over C, H and W, averaged over the batch, as in the authors' code: it grows
with the map. The paper masks places, the same in all channels; the authors' code for classification masks whole
channels instead (the line for places is commented out there). ``masked`` chooses. A mask is a pure function of (seed,
epoch, index), as views are, so that dropout in the student draws the same numbers as in its baseline. The values that
remain are not scaled up. Maps of different sizes, which the authors refuse, are average-pooled to the smaller size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import paired_maps, same_size, warn_single_map
from kd.runtime.rng import counter_device, random_bits

MASKED = ("places", "channels")


def masked_generation_loss(
    student: Tensor, teacher: Tensor, keep: Tensor, generate: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return |generate(keep * student) - teacher|^2, a scalar: summed over C, H and W, mean over B.

    Args:
        student, teacher: [B, C, H, W], of one shape.
        keep: 0 or 1, broadcasts over [B, C, H, W]. generate: maps a map to one of the same shape.
    """
    return (generate(student * keep) - teacher).square().sum((1, 2, 3)).mean()


def random_keep(x: Tensor, mask: float | Tensor, masked: str, seed: int | Tensor, epoch: int, index: Tensor) -> Tensor:
    """Draw 0 with probability ``mask``, else 1: [B, 1, H, W] for places of [B, C, H, W], [B, C, 1, 1] for channels.

    A pure function of the seed, the epoch and the index, int64 [B], of each image.
    """
    count, channels, height, width = x.shape
    shape = (count, 1, height, width) if masked == "places" else (count, channels, 1, 1)
    bits = random_bits(seed, epoch, index.to(counter_device(x.device)), math.prod(shape[1:]))
    drawn = (bits >> 40 & 0xFF_FFFF).to(x.dtype) / 2**24
    return (drawn.to(x.device).view(shape) >= mask).to(x.dtype)


class MGD(nn.Module):
    """Generate the teacher's last map from a masked one of the student.

    Args:
        mask: the share that is set to 0, in [0, 1). masked: the unit, "places" (paper) or "channels" (code).
    """

    needs = frozenset({"features"})

    def __init__(self, mask: float | Tensor = 0.15, masked: str = "places"):
        super().__init__()
        if not isinstance(mask, Tensor) and not 0 <= mask < 1:
            raise ValueError(f"kd.mask is the share that is hidden and must lie in [0, 1), got {mask}")
        if masked not in MASKED:
            raise ValueError(f"kd.masked must be places or channels, got {masked!r}")
        self.mask, self.masked = mask, masked

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        ((own, given),) = paired_maps(student, teacher, (-1,))
        if self.masked == "places":
            warn_single_map(given, "kd=mgd", "a mask hides the whole map: kd.masked=channels hides a part of it")
        self.register_buffer("seed", torch.randint(2**62, ()))
        inside, outside = own.shape[1], given.shape[1]
        self.align = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)
        self.generate = nn.Sequential(
            nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU(), nn.Conv2d(outside, outside, 3, padding=1)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, given = same_size(*paired_maps(student, teacher, (-1,))[0])
        own = self.align(own)
        keep = random_keep(own, self.mask, self.masked, self.seed, batch.epoch, batch.index)
        return masked_generation_loss(own, given, keep, self.generate)
