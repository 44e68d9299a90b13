"""What an epoch shows, computed at its start and laid on the device, so that a step only slices.

A step that computes its own views starts some eighty tiny operations on the host and copies their results to the
device, which waits for them. All of it is a function of (seed, epoch, index), so it is computed for the whole epoch at
once. An image costs 20 bytes and 8 for each parameter of its views, twice with mixup: with the six parameters of
``augment=light``, 90 MB for the 1.28 million images of ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kd.augment.chain import MIXING, Chain, Drawn
from kd.augment.mixing import DRAWS, mixture
from kd.runtime.rng import random_uniforms

ROWS = 2**16  # computed at once: the random numbers of a view take more memory than what is kept


@dataclass(frozen=True)
class EpochPlan:
    """The images of an epoch, batch after batch, and their views. The device is that of the training."""

    positions: np.ndarray  # [N], int64: of each image in the data set
    index: Tensor  # [N], int64: the same, on the device
    target: Tensor  # [N], int64, on the device
    views: tuple[Drawn, ...]  # the parameters of each view
    partner: EpochPlan | None = None  # what is mixed into each image; None if nothing is
    weight: Tensor | None = None  # [N], float32, on the device: share of the own image
    box: Tensor | None = None  # [N, 4], on the device: pasted from the partner; None without CutMix
    beside: EpochPlan | None = None  # the images that a sampler puts beside these, in their second view


def plan_epoch(
    positions: np.ndarray,
    targets: np.ndarray,
    chains: Sequence[Chain],
    seed: int,
    epoch: int,
    device: torch.device,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    partners: np.ndarray | None = None,
    first_view: int = 0,
    beside: np.ndarray | None = None,
) -> EpochPlan:
    """Return the plan of an epoch that shows the images at ``positions``.

    Args:
        positions: int64 [N]. targets: int64, of all images of the data set.
        chains: one for each view of an image. All views of an image are mixed with views of the same partner, by the
            same weight; each view of the partner is made as that which it is mixed into.
        mixup, cutmix: probabilities that an image of ``partners`` (positions, int64) is mixed in.
        first_view: the number of the first of these views.
        beside: int64 [N], images to show beside those at ``positions``, in the view after theirs.
    """
    index = torch.from_numpy(positions)
    drawn = []
    for view, chain in enumerate(chains, first_view):
        host = torch.cat([chain.parameters(seed, epoch, part, view) for part in index.split(ROWS)])
        drawn.append(Drawn(host, host.to(device)))
    partner = weight = box = None
    if mixup or cutmix:
        rows, weight, box = _mixtures(index, mixup, cutmix, len(partners), chains[0].size, seed, epoch)
        partner = plan_epoch(partners[rows.numpy()], targets, chains, seed, epoch, device, first_view=first_view)
        weight, box = weight.to(device), None if box is None else box.to(device)
    target = torch.from_numpy(targets[positions])
    plan = EpochPlan(positions, index.to(device), target.to(device), tuple(drawn), partner, weight, box)
    if beside is None:
        return plan
    others = plan_epoch(beside, targets, chains, seed, epoch, device, mixup, cutmix, partners, first_view + len(chains))
    return replace(plan, beside=others)


def _mixtures(
    index: Tensor, mixup: float, cutmix: float, count: int, side: int, seed: int, epoch: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what ``mixture`` returns for the images of an epoch."""
    uniforms = (random_uniforms(seed, epoch, part, DRAWS, start=MIXING) for part in index.split(ROWS))
    rows, weights, boxes = zip(*(mixture(mixup, cutmix, u, count, side) for u in uniforms), strict=True)
    return torch.cat(rows), torch.cat(weights), None if boxes[0] is None else torch.cat(boxes)
