"""Check one image at each step of attaching attention, so that a network that cannot take it fails before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd.runtime.errors import first_line

SUPPORTED = (
    "Convolutional networks take it: resnet18, convnext_atto, mobilenetv3_small_100, efficientnet_b0, densenet121"
)


class Snapshot(NamedTuple):
    """Outputs of a network for one image, through both of its forward passes."""

    logits: Tensor  # [1, K], of ``forward``
    again: Tensor  # [1, K], of ``forward_intermediates`` and ``forward_head``
    maps: list[Tensor]
    forward: dict[str, Any]  # outputs of the watched modules in ``forward``
    intermediates: dict[str, Any]  # and in ``forward_intermediates``


class AttachCheck:
    """Compare the outputs of ``network`` for one image at each step of attaching; a step raises ValueError if it fails.

    Args:
        boundaries: by the number of a chosen stage, the module whose output ends it.
    """

    def __init__(self, network: nn.Module, image_size: int, boundaries: Mapping[int, str]):
        self.network = network
        like = next(network.parameters())
        image = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        self.image = image.to(like.device, like.dtype)
        try:
            self.before = snapshot(network, self.image, list(boundaries.values()))
        except Exception as error:
            raise ValueError(
                f"{name_of(network)} cannot take images of {image_size} x {image_size} pixels: {first_line(error)}\n"
                f"As for attention: {SUPPORTED[0].lower()}{SUPPORTED[1:]}"
            ) from error
        for number, path in boundaries.items():
            output, expected = self.before.intermediates.get(path), self.before.maps[number].shape
            if not isinstance(output, Tensor) or output.shape != expected:
                actual = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
                raise ValueError(
                    f"attention.wrap needs maps [B, C, H, W] after each stage; "
                    f"{name_of(network)} has {actual} after stage {number}, not {list(expected)}.\n{SUPPORTED}"
                )

    def after_cut(self, paths: Mapping[int, str]) -> None:
        """Check that the logits are the same now that each chosen stage is one module, at its path in ``paths``."""
        self.paths, failure = paths, None
        try:
            now = snapshot(self.network, self.image, list(paths.values()))
            is_same = _same(now.logits, self.before.logits) and _same(now.again, self.before.again)
        except Exception as error:
            is_same, failure = False, error
        if not is_same:
            raise ValueError(
                f"attention.stages: the stages {list(paths)} of {name_of(self.network)} are not chains of modules"
                f"{f' ({first_line(failure)})' if failure else ''}, and cannot be cut out.\n{SUPPORTED}"
            ) from failure
        self.before = now

    def after_attach(self) -> None:
        """Check that every attached module runs in both forward passes and keeps the shape of its map."""
        name = name_of(self.network)
        try:
            now = snapshot(self.network, self.image, list(self.paths.values()))
        except Exception as error:
            raise ValueError(f"attention.wrap does not fit {name}: {first_line(error)}") from error
        for number, path in self.paths.items():
            if path not in now.forward or path not in now.intermediates:
                raise ValueError(f"attention.wrap: {name} does not call the module at its stage {number}, {path}")
            old, new = self.before.maps[number].shape, now.maps[number].shape
            if new != old:
                raise ValueError(
                    f"attention.wrap changes the shape of stage {number} of {name}, from {list(old)} to {list(new)}"
                )
        if not _same(now.logits, now.again):
            raise ValueError(f"attention.wrap: {name} has other logits in forward than in forward_intermediates")


def snapshot(network: nn.Module, image: Tensor, paths: Sequence[str]) -> Snapshot:
    """Run ``image`` through both forward passes of ``network`` and keep the outputs of the modules at ``paths``."""
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
def hook_outputs(network: nn.Module, paths: Sequence[str], outputs: dict[str, Any]) -> Iterator[None]:
    """Write the output of each module at ``paths`` into ``outputs``, by its path."""

    def record(path: str) -> Any:
        return lambda module, inputs, output: outputs.__setitem__(path, output)

    hooks = [network.get_submodule(path).register_forward_hook(record(path)) for path in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Set eval mode and disable gradients inside; afterwards each module has its old mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def name_of(network: nn.Module) -> str:
    """Return timm's name of the network, or the name of its class."""
    return (getattr(network, "pretrained_cfg", None) or {}).get("architecture") or type(network).__name__


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, equal_nan=True)
