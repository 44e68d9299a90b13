"""Which pixels lie in a box."""

from __future__ import annotations

import torch
from torch import Tensor


def inside(boxes: Tensor, side: int) -> Tensor:
    """Return whether each pixel is inside, bool [B, 1, side, side]; boxes [B, 4] are top, left, height and width."""
    place = torch.arange(side, device=boxes.device)
    top, left, tall, wide = boxes[..., None].unbind(1)
    rows = (place >= top) & (place < top + tall)
    columns = (place >= left) & (place < left + wide)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
