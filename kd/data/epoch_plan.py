"""What an epoch shows, computed at its start and laid on the device, so that a step only slices.

A step that computes its own views starts some eighty tiny operations on the host and copies their results to the
device, which waits for them. All of it is a function of (seed, epoch, index), so it is computed for the whole epoch at
once. An image costs 20 bytes and 8 for each parameter of its views, twice with mixup: with the six parameters of
``augment=light``, 90 MB for the 1.28 million images of ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    partner: EpochPlan | None = None  # what is mixed into each image; None without mixup
    weight: Tensor | None = None  # [N], float32, on the device: share of the own image


def plan_epoch(
    positions: np.ndarray,
    targets: np.ndarray,
    chain: Chain,
    seed: int,
    epoch: int,
    device: torch.device,
    mixup: float = 0.0,
    partners: np.ndarray | None = None,
    views: int = 1,
) -> EpochPlan:
    """Return the plan of an epoch that shows the images at ``positions``.

    Args:
        positions: int64 [N]. targets: int64, of all images of the data set.
        mixup: probability that an image of ``partners`` (positions, int64) is mixed in.
        views: of each image. All views of an image are mixed with views of the same partner, by the same weight.
    """
    index = torch.from_numpy(positions)
    drawn = []
    for view in range(views):
        host = torch.cat([chain.parameters(seed, epoch, part, view) for part in index.split(ROWS)])
        drawn.append(Drawn(host, host.to(device)))
    partner = weight = None
    if mixup:
        uniforms = (random_uniforms(seed, epoch, part, DRAWS, start=MIXING) for part in index.split(ROWS))
        rows, weight = map(torch.cat, zip(*(mixture(mixup, u, len(partners)) for u in uniforms), strict=True))
        partner = plan_epoch(partners[rows.numpy()], targets, chain, seed, epoch, device, views=views)
        weight = weight.to(device)
    target = torch.from_numpy(targets[positions])
    return EpochPlan(positions, index.to(device), target.to(device), tuple(drawn), partner, weight)
