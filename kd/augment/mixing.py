"""Mix another training image into a view: mixup (https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS = 3


def mixture(probability: float, u: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the partner of each image and the weight of the image itself.

    The partner is drawn from the whole training set, not from the batch. So a mixed view, too, is the same in every
    batch, on every device and in a teacher's logit cache. The weight is max(u, 1 - u) for u uniform in [0, 1): the
    paper's Beta(1, 1) with the larger weight first, so that an image's own label dominates.

    Args:
        probability: that an image is mixed at all. u: float64 [B, 3] in [0, 1). count: number of training images.

    Returns:
        Rows among the training images, int64 [B], and weights in [0.5, 1], float32 [B]: 1 where nothing is mixed in.
    """
    whether, partner, share = u.unbind(1)
    weight = torch.where(whether < probability, torch.maximum(share, 1 - share), 1.0)
    return (partner * count).long(), weight.float()
