"""Fold batch norms into the convolutions before them: the same function with fewer operations.

In evaluation a batch norm is one scale and one shift per channel, so a convolution can contain it. Which batch norm
follows which convolution is read from the graph of ``torch.fx`` that ``torch.export`` makes. The modules are changed in
a copy of the network, which stays an ordinary module. A batch norm stays where it is if it does not read a
convolution's output, if anything else reads that output too, or if one of the two runs several times.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}  # of logits; a wrong fold is off by far more, rounding by far less
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Folded(NamedTuple):
    """A network without the batch norms that its convolutions contain."""

    network: nn.Module
    count: int  # of folded batch norms


def fold_batch_norms(network: nn.Module, program: ExportedProgram, image: Tensor) -> Folded:
    """Return a copy of ``network`` whose convolutions contain the batch norms that follow them.

    Args:
        network: in eval mode. program: its graph, see ``kd.export.program.to_program``.
        image: [B, 3, H, W]: the copy must give the logits of ``network`` for it, else nothing is folded.
    """
    folded, count = copy.deepcopy(network), 0
    for conv_path, norm_path in pairs(program):
        conv, norm = folded.get_submodule(conv_path), folded.get_submodule(norm_path)
        rest = _without_statistics(norm)
        if isinstance(conv, _ConvNd) and rest is not None:
            _fold_into(conv, norm)
            folded.set_submodule(norm_path, rest)
            count += 1
    if count and not _same(network, folded, image):
        return Folded(network, 0)
    return Folded(folded, count)


def pairs(program: ExportedProgram) -> Iterator[tuple[str, str]]:
    """Yield the paths of each convolution whose output only a batch norm reads, and of that batch norm."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    for norm in program.graph.nodes:
        if norm.op != "call_function" or str(norm.target) != "aten.batch_norm.default" or norm.args[5]:
            continue
        conv, mean = norm.args[0], norm.args[3]
        if not _is_conv(conv) or set(conv.users) != {norm}:
            continue
        own = [each for each in (*conv.args[1:3], *norm.args[1:5]) if each is not None]
        if mean is None or any(each.name not in names or len(each.users) > 1 for each in own):
            continue  # without running statistics, with a weight that is computed, or with one that is shared
        yield names[conv.args[1].name].rpartition(".")[0], names[mean.name].rpartition(".")[0]


def _is_conv(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith(("aten.conv", "aten.convolution"))


def _without_statistics(norm: nn.Module) -> nn.Module | None:
    """Return what remains of a batch norm once a convolution contains it; None if that is not known."""
    if not isinstance(norm, _BatchNorm) or norm._forward_hooks or norm._forward_pre_hooks:
        return None
    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(norm.drop, norm.act)
    return nn.Identity() if type(norm) in PLAIN else None


def _fold_into(conv: _ConvNd, norm: _BatchNorm) -> None:
    """Scale and shift the outputs of a convolution as the batch norm does; computed in float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = 0.0 if norm.bias is None else norm.bias.double()
    before = 0.0 if conv.bias is None else conv.bias.double()
    bias = (before - norm.running_mean.double()) * scale + shift
    weight = conv.weight.double()
    if isinstance(conv, _ConvTransposeNd):  # [in, out / groups, ...]: the outputs of a group lie in a row
        by_group = weight.unflatten(0, (conv.groups, -1))
        factors = scale.view(conv.groups, 1, -1, *[1] * (weight.ndim - 2))
        weight = (by_group * factors).flatten(0, 1)
    else:
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _same(network: nn.Module, folded: nn.Module, image: Tensor) -> bool:
    with torch.inference_mode():
        return torch.allclose(network(image), folded(image), **TOLERANCE)
