"""Rows of a batch that are treated alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def apply_by_kind(
    image: Tensor,
    kinds: Tensor,
    host: Tensor,
    values: Tensor,
    functions: Mapping[int, Callable[[Tensor, Tensor], Tensor]],
) -> Tensor:
    """Apply the function of its kind to each image, all images of a kind at once.

    How many there are of a kind is counted on the CPU; which they are is sorted on the device. So nothing waits.

    Args:
        image: [B, C, H, W]; not changed. kinds: [B], whole numbers, on the device of the images.
        host: the same on the CPU. values: [B, ...], on the device: the function gets those of its images.
        functions: kind -> function(images, values) that returns new images. A kind without one is left alone.
    """
    counts = host.long().bincount().tolist()
    result = image.clone(memory_format=torch.contiguous_format)
    for kind, rows in enumerate(kinds.argsort(stable=True).split(counts)):
        if kind in functions and len(rows):
            changed = functions[kind](image.index_select(0, rows), values.index_select(0, rows))
            result.index_copy_(0, rows, changed)
    return result
