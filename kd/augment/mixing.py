"""Mix another training image into a view: mixup (https://arxiv.org/abs/1710.09412) and CutMix
(https://arxiv.org/abs/1905.04899)."""

from __future__ import annotations

import torch
from torch import Tensor

from kd.augment._masks import inside

DRAWS = 5  # whether; which partner; its share; where the box is


def mixture(mixup: float, cutmix: float, u: Tensor, count: int, side: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the partner of each image, the weight of the image itself, and the box that is pasted from the partner.

    The partner is drawn from the whole training set, not from the batch. So a mixed view, too, is the same in every
    batch, on every device and in a teacher's logit cache.

    Mixup's weight is max(v, 1 - v) for v uniform in [0, 1): the paper's Beta(1, 1) with the larger weight first, so
    that an image's own label dominates. CutMix's box has its centre anywhere and a share 1 - v of the area (the paper's
    Beta(1, 1), too). What lies outside the image is cut off, and the weight is the share that remains of the own image,
    which may be below 1/2.

    Args:
        mixup, cutmix: probabilities; an image gets one of the two or neither, so their sum is at most 1.
        u: float64 [N, 5] in [0, 1); mixup alone needs three. count: number of training images.
        side: of a view, in pixels.

    Returns:
        Rows among the training images, int64 [N]; weights in [0, 1], float32 [N], 1 where nothing is mixed in; and
        boxes, int64 [N, 4], top, left, height and width in pixels, empty where none is pasted. None without CutMix.

    Raises:
        ValueError: the probabilities sum to more than 1.
    """
    if mixup + cutmix > 1 + 1e-9:  # sums such as 0.1 + 0.9 are rounded
        raise ValueError(
            f"an image is mixed by mixup or by CutMix: their probabilities may sum to 1, got {mixup} + {cutmix}"
        )
    whether, partner, share = u[:, :3].unbind(1)
    weight = torch.where(whether < mixup, torch.maximum(share, 1 - share), 1.0)
    box = None
    if cutmix:
        pasted = (whether >= mixup) & (whether < mixup + cutmix)
        box = torch.where(pasted[:, None], cutmix_boxes(share, *u[:, 3:5].unbind(1), side), 0)
        weight = torch.where(pasted, 1 - box[:, 2:].prod(1).double() / side**2, weight)
    return (partner * count).long(), weight.float(), box


def cutmix_boxes(share: Tensor, down: Tensor, across: Tensor, side: int) -> Tensor:
    """Return boxes with a share of ``1 - share`` of a square image, cut off at its border.

    Args:
        share, down, across: [N] in [0, 1): what remains, and where the centre lies. side: in pixels.

    Returns:
        int64 [N, 4], top, left, height and width; each side is even before it is cut off, as torchvision's are.
    """
    half = (0.5 * torch.sqrt(1 - share) * side).long()
    centre = (torch.stack([down, across], 1) * side).long()
    start, end = (centre - half[:, None]).clamp(min=0), (centre + half[:, None]).clamp(max=side)
    return torch.cat([start, end - start], 1)


def mix(image: Tensor, other: Tensor, weight: Tensor, box: Tensor | None) -> Tensor:
    """Return mixed images [B, C, H, H].

    Args:
        image, other: [B, C, H, H]; not changed. weight: float32 [B], see ``mixture``, of rows without a box.
        box: [B, 4], or None; inside it is the other image, outside the image itself.
    """
    own = weight[:, None, None, None]
    if box is not None:
        pasted = box[:, 2:].prod(1)[:, None, None, None] > 0
        own = torch.where(pasted, (~inside(box, image.shape[-1])).float(), own)
    return own * image + (1 - own) * other
