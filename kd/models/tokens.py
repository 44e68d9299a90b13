"""The maps that a network of tokens shows.

timm returns the maps of every network as [B, C, H, W], without class tokens, and keeps what a head reads (tokens
[B, N, C], maps with channels last, a list) as the first result of ``forward_intermediates``. So the logits of
``forward_head`` are exact, and only the choice of maps is left. How a transformer is built for another image size is in
``kd/models/timm_size.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

MAPS = 4  # of a network whose blocks all have the same map: as many as a pyramid has stages


def choose_maps(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the maps that methods pair: all of a pyramid, four evenly spaced ones of a network without stages.

    A ViT returns one map a block, 12 of one shape; blocks 3, 6, 9 and 12 remain.
    """
    if len(maps) <= MAPS or any(one.shape[1:] != maps[0].shape[1:] for one in maps):
        return list(maps)
    return [maps[len(maps) * number // MAPS - 1] for number in range(1, MAPS + 1)]
