"""What torchvision does, images to try it on, and how well samples agree with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from kd.augment import _ops
from kd.augment.randaugment import SPACE
from kd.augment.trivial import WIDE
from kd.data.datasets.scenes.dataset import draw
from kd.runtime.rng import random_uniforms

SPACES = {"trivial": (WIDE, v2.TrivialAugmentWide()), "randaugment": (SPACE, v2.RandAugment())}
BINS = 31
SIZES = (31, 32, 100)


def images(side: int) -> Tensor:
    """Return uint8 [5, 3, side, side]: two drawn scenes, noise, a grey ramp and one flat colour with a spot."""
    scenes = [torch.from_numpy(draw(0, 0, place, side)).permute(2, 0, 1) for place in (0, 3)]
    noise = torch.randint(0, 256, (3, side, side), generator=torch.manual_seed(side)).byte()
    ramp = torch.linspace(0, 255, side).byte().expand(3, side, side)
    spot = torch.tensor([200, 20, 90]).byte()[:, None, None].repeat(1, side, side)
    spot[:, 1, 2] = 7
    return torch.stack([*scenes, noise, ramp, spot])


def unit(pixels: Tensor) -> Tensor:
    return pixels.float() / 255


def uniforms(count: int, draws: int, seed: int = 5) -> Tensor:
    """Return float64 [count, draws] in [0, 1), as ``kd/augment/chain.py`` draws them."""
    return random_uniforms(seed, 1, torch.arange(count), draws)


def torchvision_operation(policy: str, image: Tensor, name: str, strength: float) -> Tensor:
    """Return what torchvision's class does to one image [3, H, H], by its own code."""
    theirs = SPACES[policy][1]
    return theirs._apply_image_or_video_transform(image, name, strength, theirs.interpolation, theirs._fill)


def torchvision_strengths(policy: str, name: str, side: int) -> Tensor:
    strengths, _ = SPACES[policy][1]._AUGMENTATION_SPACE[name]
    found = strengths(BINS, side, side)
    return torch.zeros(BINS) if found is None else found.float()


def rows_of(policy: str, name: str, side: int) -> Tensor:
    """Return the parameters of an operation at every strength and sign, [62, 7]."""
    return _ops.table(SPACES[policy][0], BINS, side)[list(_ops.OPERATIONS).index(name)].flatten(0, 1)


def chi_square(ours: Tensor, theirs: Tensor) -> tuple[float, int]:
    """Return the chi-square statistic of two samples of categories of the same size, and its degrees of freedom.

    Categories seen fewer than ten times in both together are merged.
    """
    labels, place = torch.unique(torch.cat([ours, theirs]), dim=0, return_inverse=True)
    a, b = (torch.bincount(part, minlength=len(labels)) for part in place.split([len(ours), len(theirs)]))
    rare = a + b < 10
    a, b = (torch.cat([x[~rare], x[rare].sum()[None]]).double() for x in (a, b))
    seen = a + b > 0
    return ((a - b).square() / (a + b))[seen].sum().item(), int(seen.sum()) - 1


def same_categories(ours: Tensor, theirs: Tensor) -> bool:
    """Whether the chi-square statistic lies within five standard deviations of its mean."""
    statistic, freedom = chi_square(ours, theirs)
    return statistic < freedom + 5 * max(1.0, (2 * freedom) ** 0.5)


def same_numbers(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two samples pass the test of Kolmogorov and Smirnov at one in a million."""
    a, b = (np.sort(np.asarray(x, np.float64)) for x in (ours, theirs))
    every = np.concatenate([a, b])
    apart = np.abs(np.searchsorted(a, every, "right") / len(a) - np.searchsorted(b, every, "right") / len(b)).max()
    return apart < np.sqrt(-np.log(0.5e-6) / 2 * (len(a) + len(b)) / (len(a) * len(b)))
