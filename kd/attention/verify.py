"""Run a network before, while and after attention is attached, so that nothing is refused or lost in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd.runtime.errors import first_line

TAKE_IT = "Convolutional networks take it: resnet18, convnext_atto, mobilenetv3_small_100, efficientnet_b0, densenet121"


class Snapshot(NamedTuple):
    """What a network shows of one image."""

    logits: Tensor  # [1, K], of ``forward``
    again: Tensor  # [1, K], of ``forward_intermediates`` and ``forward_head``
    maps: list[Tensor]
    forward: dict[str, Any]  # what each watched module gave in the one way
    intermediates: dict[str, Any]  # and in the other


class AttachCheck:
    """One image, shown to ``network`` at each step of attaching; every step raises ValueError where it went wrong.

    Args:
        boundaries: the module at whose output each chosen stage ends, by the stage's number.
    """

    def __init__(self, network: nn.Module, image_size: int, boundaries: Mapping[int, str]):
        self.network = network
        like = next(network.parameters())
        picture = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        self.image = picture.to(like.device, like.dtype)
        try:
            self.sight = snapshot(network, self.image, list(boundaries.values()))
        except Exception as error:
            raise ValueError(
                f"{name_of(network)} cannot take images of {image_size} x {image_size} pixels: {first_line(error)}\n"
                f"As for attention: {TAKE_IT[0].lower()}{TAKE_IT[1:]}"
            ) from error
        for number, path in boundaries.items():
            given, shown = self.sight.intermediates.get(path), self.sight.maps[number].shape
            if not isinstance(given, Tensor) or given.shape != shown:
                said = list(given.shape) if isinstance(given, Tensor) else f"a {type(given).__name__}"
                raise ValueError(
                    f"attention.wrap wants maps [B, C, H, W] behind each stage; "
                    f"{name_of(network)} shows {said} behind stage {number}, where {list(shown)} would be.\n{TAKE_IT}"
                )

    def cut(self, places: Mapping[int, str]) -> None:
        """Ask whether the network says what it said now that each chosen stage is one module, at its place."""
        self.places, told = places, None
        try:
            now = snapshot(self.network, self.image, list(places.values()))
            same = _same(now.logits, self.sight.logits) and _same(now.again, self.sight.again)
        except Exception as error:
            same, told = False, error
        if not same:
            raise ValueError(
                f"attention.stages: the stages {list(places)} of {name_of(self.network)} are not chains of modules"
                f"{f' ({first_line(told)})' if told else ''}, and cannot be cut out.\n{TAKE_IT}"
            ) from told
        self.sight = now

    def attached(self) -> None:
        """Ask whether every attached module takes part, in ``forward`` as in the other way, and keeps the shape."""
        name = name_of(self.network)
        try:
            now = snapshot(self.network, self.image, list(self.places.values()))
        except Exception as error:
            raise ValueError(f"attention.wrap does not fit {name}: {first_line(error)}") from error
        for number, path in self.places.items():
            if path not in now.forward or path not in now.intermediates:
                raise ValueError(f"attention.wrap: {name} goes past what stands at its stage {number}, {path}")
            was, told = self.sight.maps[number].shape, now.maps[number].shape
            if told != was:
                raise ValueError(f"attention.wrap makes {list(told)} of stage {number} of {name}, which is {list(was)}")
        if not _same(now.logits, now.again):
            raise ValueError(f"attention.wrap: {name} says one thing in forward and another where it shows its maps")


def snapshot(network: nn.Module, image: Tensor, paths: Sequence[str]) -> Snapshot:
    """Show ``image`` to ``network`` in both ways and watch what the modules at ``paths`` give."""
    forward: dict[str, Any] = {}
    intermediates: dict[str, Any] = {}
    with eval_mode(network):
        with hook_outputs(network, paths, forward):
            logits = network(image)
        with hook_outputs(network, paths, intermediates):
            last, maps = network.forward_intermediates(image)
            again = network.forward_head(last)
    return Snapshot(logits, again, maps, forward, intermediates)


@contextmanager
def hook_outputs(network: nn.Module, paths: Sequence[str], found: dict[str, Any]) -> Iterator[None]:
    """Write what each of these modules gives into ``found``, by its path."""

    def note(path: str) -> Any:
        return lambda module, given, told: found.__setitem__(path, told)

    hooks = [network.get_submodule(path).register_forward_hook(note(path)) for path in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards each module is in the mode that it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def name_of(network: nn.Module) -> str:
    """timm's name of the network, or its class's."""
    return (getattr(network, "pretrained_cfg", None) or {}).get("architecture") or type(network).__name__


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, equal_nan=True)
