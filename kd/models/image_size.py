"""Advice for a network that cannot take the images: the settings that help, found by trying them.

A network of timm declares the size that it was made for. Only a trial shows whether another stem or another size works:
the network is built again for each on torch's meta device, which has shapes and no numbers, and runs one image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from kd.interfaces import extract_outputs

SIDE = 32  # pixels: most networks halve an image five times
SIDES_TO_TRY = (32, 64, 96, 128, 224, 256, 299, 384)  # usual sides, for a network without a fixed one

Make = Callable[..., nn.Module]  # (image_size, **settings of the network) -> network


def suggest_settings(
    network: nn.Module,
    make: Make,
    settings: Mapping[str, Any],
    role: str,
    image_size: int,
    has_size: Callable[[int], bool] = lambda size: True,
    is_own: bool = False,
) -> str:
    """Return the sentence that follows the refusal of a network.

    Args:
        network: the refused network. make: builds it again. settings: those of the network.
        role: teacher or student, for the key of the stem; a network of a list has no such key.
        has_size: whether the data set has images of this size. is_own: the size is the teacher's own, not the data's.
    """
    key = f"{role}.stem=" if role in ("teacher", "student") else "its stem="
    helpful = []
    if "stem" in settings:
        stems = [stem for stem in ("large", "small") if stem != settings["stem"]]
        helpful += [f"{key}{stem}" for stem in stems if _takes(make, image_size, stem=stem)][:1]
    side = next((size for size in sizes_to_try(network, image_size) if _takes(make, size)), None)
    if side and role.startswith("teacher"):
        helpful.append(f"teacher.image_size={side}" if role == "teacher" else f"its image_size={side}")
    if side and not is_own and has_size(side):
        helpful.append(f"data.image_size={side}")
    if helpful:
        return f"Use {' or '.join(helpful)}, or choose another network."
    if side:
        return (
            f"It takes {side} x {side} pixels, which this data set does not have: choose other data or another network."
        )
    return "Choose another network or another data.image_size."


def sizes_to_try(network: nn.Module, image_size: int) -> list[int]:
    """Return the sides to try, the likeliest first: the declared one if the network takes no other."""
    declared = getattr(network, "pretrained_cfg", None) or {}
    own = (declared.get("input_size") or [0])[-1]
    least = (declared.get("min_input_size") or [0])[-1]
    below = image_size // SIDE * SIDE
    usual = [below + SIDE, below, *(side for side in SIDES_TO_TRY if side > below + SIDE)]
    order = [own, *usual] if declared.get("fixed_input_size") else [least, *usual, own]
    return [side for side in dict.fromkeys(order) if side > 0 and side != image_size]


def _takes(make: Make, image_size: int, **settings: Any) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            extract_outputs(make(image_size, **settings).eval(), torch.zeros(1, 3, image_size, image_size))
    except Exception:  # whatever the cause: these settings do not help
        return False
    return True
