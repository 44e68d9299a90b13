"""Count the cost of a network, and list the sizes of its maps, by building it.

The network is built on torch's meta device, which has shapes and no values: ResNet-18 takes 0.1 s and no memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kd.build import build_network
from kd.config.networks import names, network_of
from kd.runtime.errors import first_line

if TYPE_CHECKING:
    from torch import Tensor, nn


class Case(NamedTuple):
    """The image size, classes and backbone that counts are for."""

    image_size: int = 48
    num_classes: int = 6
    backbone: str = "resnet18"  # the network for attentions: an option of teacher or student, or timm's name


class Counts(NamedTuple):
    params: int  # as deployed
    live: int  # of them, those that the logits depend on
    macs: int
    embedding: int | None  # channels
    maps: tuple[tuple[int, ...], ...]  # (C, H, W), shallow to deep


def count(spec: Mapping[str, Any], case: Case, tried: bool = True) -> Counts | None:
    """Count the network of ``spec``, the argument of ``build_network``; None for an exported program without a file.

    Raises:
        ValueError: the network cannot be built or does not take the image; with its message.
    """
    chosen = {"network": dict(spec["network"]), "attention": spec.get("attention")}
    if chosen["network"].get("pretrained"):
        chosen["network"]["pretrained"] = False  # a count needs no download
    return _count(json.dumps(chosen), case.image_size, case.num_classes, tried)


@cache
def _count(spec: str, image_size: int, num_classes: int, tried: bool) -> Counts | None:
    import torch

    def counted() -> Counts | None:
        return counts_of(build_network(json.loads(spec), num_classes, image_size, tried), image_size)

    try:
        try:
            with torch.device("meta"):
                return counted()
        except Exception:  # a network that reads values, or one that fails anyway: this gives its message
            return counted()
    except Exception as error:
        raise ValueError(error_line(error)) from error


def counts_of(network: nn.Module, image_size: int) -> Counts | None:
    """Count ``network``, which is changed by it, on its device; None if it has no parameters."""
    from kd.evaluation.cost import macs, params

    if next(network.parameters(), None) is None:
        return None
    outputs: dict[str, Any] = {}

    def in_two_steps(image: Tensor) -> Tensor:
        outputs["last"], outputs["maps"] = network.forward_intermediates(image)
        outputs["logits"] = network.forward_head(outputs["last"])
        return outputs["logits"]

    network.eval().requires_grad_(True)
    network.forward = in_two_steps  # equal to forward: so one pass counts and returns the maps
    count = macs(network, image_size)
    embedding = network.forward_head(outputs["last"], pre_logits=True)
    return Counts(
        params=params(network),
        live=live_params(network, outputs["logits"]),
        macs=count,
        embedding=None if embedding is None else embedding.shape[-1],
        maps=tuple(tuple(one.shape[1:]) for one in outputs["maps"]),
    )


def live_params(network: nn.Module, logits: Tensor) -> int:
    """Count the parameters that a backward pass from ``logits`` reaches."""
    waiting, seen = [logits.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [function for function, _ in node.next_functions]
    ends = {id(node.variable) for node in seen if hasattr(node, "variable")}
    return sum(p.numel() for p in network.parameters() if id(p) in ends)


def count_backbone(case: Case, folder: str) -> tuple[dict[str, Any], Counts]:
    """Return the backbone's node, from the configs in ``folder`` or else timm's, and its counts without attention.

    Raises:
        ValueError: an unknown backbone, or one that does not take the image.
    """
    node = _backbone(case.backbone, folder)
    try:
        counts = count({"network": node}, case)
    except ValueError as error:
        raise ValueError(f"{error} (--backbone {case.backbone} --size {case.image_size})") from error
    if counts is None:
        raise ValueError(f"--backbone {case.backbone} is an exported program: it takes no attention")
    return node, counts


@cache
def _backbone(name: str, folder: str) -> dict[str, Any]:
    """Return the node; ``folder`` is the config folder of ``names``, here as a key of the cache."""
    if name in [*names("teacher"), *names("student")]:
        return network_of(name, ("teacher", "student"), "--backbone")["network"]
    return {"_target_": "kd.models.backbone.build", "name": name, "pretrained": False, "stem": "auto"}


def error_line(error: BaseException) -> str:
    """Return the first line of an error, without Hydra's wrappers."""
    while type(error).__name__ == "InstantiationException" and error.__cause__:
        error = error.__cause__
    return first_line(error)
