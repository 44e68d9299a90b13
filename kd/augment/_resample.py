"""Crop a box of each image and resize it to one size: bilinear, antialiased, a whole batch at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resample_boxes(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return the inside of a box of each image at ``size``, as torchvision's ``resized_crop`` with antialias does.

    Resizing is linear and separable: an output row is a weighted sum of the few rows that lie under a triangle. Such
    sums of few rows are what ``F.embedding_bag`` does, so rows are summed, the image is turned on its side, and its
    columns are summed as rows. Two matrix products do the same in twice the time (2 cores, 64 images, 112 to 100
    pixels: 19 ms of products against 8 ms).

    Args:
        image: [B, C, H, W], on any device; not changed.
        boxes: [B, 4], top, left, height and width in whole pixels, on that device; inside the image, at least 1 pixel.

    Returns:
        [B, C, size, size], contiguous.
    """
    batch, channels, height, width = image.shape
    top, left, tall, wide = boxes.float().unbind(1)
    rows = image.permute(0, 2, 3, 1).reshape(batch, height, width * channels)  # free for channels-last images
    rows = _sum_rows(rows, top, tall, size)  # [B, size, W C]
    columns = rows.transpose(1, 2).reshape(batch, width, channels * size)
    columns = _sum_rows(columns, left, wide, size)  # [B, size, C size]
    image = columns.transpose(1, 2).contiguous().view(batch, channels, size, size)
    return image.clamp_(max=1)  # rounded weights may sum to a little more than 1


def _sum_rows(rows: Tensor, start: Tensor, length: Tensor, size: int) -> Tensor:
    """Resize the ``length`` rows of each image that begin at ``start``: [B, N, F] -> [B, size, F]."""
    batch, count, width = rows.shape
    index, weight = taps(start, length, count, size)
    index = index + count * torch.arange(batch, device=rows.device)[:, None, None]
    flat = F.embedding_bag(
        index.flatten(0, 1), rows.reshape(-1, width), per_sample_weights=weight.flatten(0, 1), mode="sum"
    )
    return flat.view(batch, size, width)


def taps(start: Tensor, length: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return which rows are summed for each output row, and their weights, as ``upsample_bilinear2d_aa`` has them.

    The filter is a triangle: one output pixel wide to either side when rows are merged, one input pixel when rows are
    added. The weights inside the box sum to 1.

    Args:
        start, length: float32 [B], first row and number of rows of each box, whole numbers. count: rows of an image.

    Returns:
        int64 [B, size, K] and float32 [B, size, K]; K is enough for a box of ``count`` rows.
    """
    scale = (length / size)[:, None]
    reach = scale.clamp(min=1)
    centre = scale * (torch.arange(size, device=start.device) + 0.5)  # [B, size], in pixels of the box
    first = (centre - reach + 0.5).floor()
    own = first[..., None] + torch.arange(math.ceil(2 * max(count / size, 1)), device=start.device)
    weight = (1 - (own + 0.5 - centre[..., None]).abs() / reach[..., None]).clamp(min=0)
    within = (own >= 0) & (own < length[:, None, None])
    weight = torch.where(within, weight, 0)
    index = torch.minimum(own.clamp(min=0), length[:, None, None] - 1) + start[:, None, None]
    return index.long(), weight / weight.sum(-1, keepdim=True)
