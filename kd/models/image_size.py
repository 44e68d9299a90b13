"""What to say of a network that cannot take the images: the settings that help, found by trying them.

A network of timm declares the size that it was made for. Whether another stem or another size would do, only the
network knows: each is made once more on torch's meta device, which has shapes and no numbers, and shown an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from kd.interfaces import extract_outputs

SIDE = 32  # pixels: most networks halve an image five times
TRIED = (32, 64, 96, 128, 224, 256, 299, 384)  # sides that are usual, where a network does not fix one

Make = Callable[..., nn.Module]  # (image_size, **settings of the network) -> network


def suggest_settings(
    network: nn.Module,
    make: Make,
    settings: Mapping[str, Any],
    role: str,
    image_size: int,
    comes_in: Callable[[int], bool] = lambda size: True,
) -> str:
    """The sentence that follows the refusal of a network.

    Args:
        network: of timm or our own, that was refused. make: makes it anew. settings: its own. role: for the key of its
            stem: teacher, student; what stands in a list has none. comes_in: whether the data set has this size.
    """
    key = f"{role}.stem=" if role in ("teacher", "student") else "its stem="
    found = []
    if "stem" in settings:
        stems = [stem for stem in ("large", "small") if stem != settings["stem"]]
        found += [f"{key}{stem}" for stem in stems if _takes(make, image_size, stem=stem)][:1]
    side = next((size for size in describe_sizes(network, image_size) if _takes(make, size)), None)
    if side and comes_in(side):
        found.append(f"data.image_size={side}")
    if found:
        return f"Say {' or '.join(found)}, or choose another network."
    if side:
        return (
            f"It takes {side} x {side} pixels, in which these data do not come: choose other data or another network."
        )
    return "Choose another network or another data.image_size."


def describe_sizes(network: nn.Module, image_size: int) -> list[int]:
    """Sides to try, the likeliest first: the one that the network was made for where it takes no other."""
    declared = getattr(network, "pretrained_cfg", None) or {}
    own = (declared.get("input_size") or [0])[-1]
    least = (declared.get("min_input_size") or [0])[-1]
    below = image_size // SIDE * SIDE
    usual = [below + SIDE, below, *(side for side in TRIED if side > below + SIDE)]
    order = [own, *usual] if declared.get("fixed_input_size") else [least, *usual, own]
    return [side for side in dict.fromkeys(order) if side > 0 and side != image_size]


def _takes(make: Make, image_size: int, **settings: Any) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            extract_outputs(make(image_size, **settings).eval(), torch.zeros(1, 3, image_size, image_size))
    except Exception:  # whatever it says: this is not the way
        return False
    return True
