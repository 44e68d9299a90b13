"""Build a network of timm for an image size: transformers have one, which timm's arguments change.

A transformer has a position embedding for each patch, or tables for the positions in a window, so it is built for one
image size. timm declares that as ``fixed_input_size``; what a network takes besides, only a trial shows. It is built
on torch's meta device, which has shapes and no numbers. Any other network comes out of here as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from kd.interfaces import extract_outputs
from kd.runtime.errors import first_line

LEAST_PATCH = 2  # pixels: below it a transformer would read single pixels

Arguments = dict[str, Any]  # of ``timm.create_model``


@cache
def fit_to_size(
    name: str, image_size: int, stem: str, is_small: bool, adapt_stem: Callable[..., None], pretrained: bool
) -> tuple[Arguments, bool]:
    """Return the arguments with which timm builds a network for this image size, and whether to adapt its stem.

    Variants are tried on the meta device until one takes the image: as published, for small images with a changed stem
    or with smaller patches, and with timm's ``img_size``. Nothing is tried for larger images and a network of no fixed
    size.

    Args:
        name: of a network of timm. stem: the setting. is_small: whether a small stem is wanted for this size.
        adapt_stem: changes the stem of a network in place, as ``kd.models.backbone.adapt_stem``. pretrained: whether it
            keeps the weights.

    Raises:
        ValueError: ``stem="small"`` of a network that has no smaller stem at this size.
    """
    cfg = timm.get_pretrained_cfg(name)
    fixed = cfg is not None and cfg.fixed_input_size
    if not is_small and (not fixed or cfg.input_size[-1] == image_size):
        return {}, False

    def adapted(network: nn.Module) -> None:
        if is_small:
            adapt_stem(network, keep_weights=pretrained)

    failure = _failure(name, image_size, {}, adapted)
    if failure is None:
        return {}, is_small
    if is_small:
        for patch in _smaller_patches(name, image_size):
            arguments = {"img_size": image_size, "patch_size": patch}
            if _failure(name, image_size, arguments) is None:
                return arguments, False
        if not fixed:
            return {}, True
        if stem == "small":
            raise ValueError(
                f"stem=small: {name} has no smaller stem for {image_size} x {image_size} pixels "
                f"({first_line(failure)}); use stem=large"
            )
        if _failure(name, image_size, {}) is None:
            return {}, False
    sized = {"img_size": image_size}
    return (sized if _failure(name, image_size, sized) is None else {}), False


def _smaller_patches(name: str, image_size: int) -> Iterator[int]:
    """Yield the side of a small stem's patches: about a quarter of the published one, divisors of the image's first.

    Sixteen pixels become four, so that an image of 32 pixels has 8 x 8 patches; four become two, as in the small stem
    of a convolutional network of patches.
    """
    with torch.device("meta"):
        first = next((m for m in timm.create_model(name).modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.kernel_size == first.stride:
        most = max(LEAST_PATCH, first.stride[0] // 4)
        yield from sorted(range(most, LEAST_PATCH - 1, -1), key=lambda side: image_size % side > 0)


def _failure(
    name: str, image_size: int, arguments: Arguments, change: Callable[[nn.Module], None] = lambda network: None
) -> Exception | None:
    """Return why a network of these arguments does not take the image, or None if it does.

    A network that reads its grid from a patch size, not from its tokens, shows maps of wrong channels after a change of
    its stem.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            network = timm.create_model(name, num_classes=2, **arguments).eval()
            change(network)
            maps = extract_outputs(network, torch.zeros(1, 3, image_size, image_size)).features
            right = [info["num_chs"] for info in network.feature_info]
            if [one.shape[1] for one in maps] != right:
                raise ValueError(f"its maps have {[one.shape[1] for one in maps]} channels, not {right}")
    except Exception as error:  # of many kinds: an assertion, a shape, an argument that the constructor does not take
        return error
    return None
