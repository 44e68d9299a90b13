"""A faster copy of a network that is never trained: batch norms folded into convolutions, weights in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Set

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from kd.interfaces import Outputs, extract_outputs
from kd.runtime.device import Device, run_narrow_convs_in_autocast

TOLERANCE = 1e-3  # of the largest output: folding changes the last digits only


@torch.no_grad()
def frozen_copy(network: nn.Module, image: Tensor, device: Device, needs: Set[str]) -> nn.Module:
    """Return a copy with the same outputs to rounding, or ``network`` itself if there is nothing to gain.

    A step is taken only if the outputs for ``image`` confirm it: folded networks agree to ``TOLERANCE`` in float32,
    and weights in bfloat16 give the same bits as weights that autocast converts anew for every batch.

    Args:
        network: in eval mode. image: [B, 3, H, W], in [0, 1]. needs: the outputs that must agree.
    """
    pairs = foldable(network, image)
    layers = [path for path, module in network.named_modules() if type(module) in (nn.Conv2d, nn.Linear)]
    is_narrow = device.precision == torch.bfloat16 and layers
    if not (pairs or is_narrow):
        return network
    frozen = copy.deepcopy(network)
    if pairs:
        fold(frozen, pairs)
        if not _agrees(network, frozen, image, needs, TOLERANCE):
            frozen = copy.deepcopy(network)
    if is_narrow:
        run_narrow_convs_in_autocast(frozen)  # the fault that float32 avoids is one of the backward pass
        narrow = copy.deepcopy(frozen)
        for path in layers:
            narrow.get_submodule(path).to(torch.bfloat16)
        with device.autocast():
            frozen = narrow if _agrees(frozen, narrow, image, needs, 0.0) else frozen
    return frozen


def foldable(network: nn.Module, image: Tensor) -> list[tuple[str, str]]:
    """Return the paths of convolutions and the batch norms that read their outputs, each called once for ``image``.

    Whether something else reads the output of the convolution, too, only a comparison of outputs shows.
    """
    made: dict[int, tuple[str, Tensor]] = {}  # by id of the output, which is kept so that no other gets its id
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            calls[path] = calls.get(path, 0) + 1
            if isinstance(module, nn.Conv2d):
                made[id(output)] = path, output
            elif id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], path))

        handles.append(module.register_forward_hook(hook))

    for path, module in network.named_modules():
        if type(module) is nn.Conv2d or (isinstance(module, nn.BatchNorm2d) and module.running_mean is not None):
            watch(path, module)
    try:
        extract_outputs(network, image)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def fold(network: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Fold each batch norm of ``pairs`` into its convolution, in place; what it does besides normalising stays."""
    for conv_path, norm_path in pairs:
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # of timm's batch norms
        network.set_submodule(norm_path, nn.Sequential(*rest) if rest else nn.Identity())


def _agrees(network: nn.Module, other: nn.Module, image: Tensor, needs: Set[str], tolerance: float) -> bool:
    """Whether all outputs agree, up to ``tolerance`` times the largest value of each."""
    try:
        pairs = zip(*(_tensors(extract_outputs(n, image, needs)) for n in (network, other)), strict=True)
        return all((x - y).abs().max() <= tolerance * x.abs().max() for x, y in pairs)
    except (AttributeError, RuntimeError, TypeError):  # the network reads what is no longer there
        return False


def _tensors(outputs: Outputs) -> list[Tensor]:
    return [
        x.float() for x in (outputs.logits, outputs.embedding, *outputs.features, outputs.class_maps) if x is not None
    ]
