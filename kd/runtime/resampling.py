"""Pooling and resizing of maps to a given size, with a deterministic backward pass on every device.

On an accelerator torch has no deterministic backward kernel for ``F.adaptive_avg_pool2d`` (at equal seeds the bits
differ from run to run) and none for the bilinear ``F.interpolate``, which deterministic mode replaces by a
decomposition of 170 operations. Both are linear and separable: ``rows @ x @ columns`` with two small fixed matrices.
On a CPU the functions call torch's kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

_torch_kernels = {"cpu"}  # kinds of devices on which torch's own kernels are used


@contextmanager
def torch_kernels(kind: str) -> Iterator[None]:
    """Inside the block use torch's kernels on this kind of device, too: to count operations as on a CPU."""
    added = {kind} - _torch_kernels
    _torch_kernels.update(added)
    try:
        yield
    finally:
        _torch_kernels.difference_update(added)


def average_pool(x: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.adaptive_avg_pool2d(x, (height, width))``, up to rounding: [..., H, W] -> [..., height, width]."""
    if x.device.type in _torch_kernels or height == width == 1:  # to one place it is a mean, also in torch
        return F.adaptive_avg_pool2d(x, (height, width))
    if x.shape[-2] % height == 0 and x.shape[-1] % width == 0:
        return F.avg_pool2d(x, (x.shape[-2] // height, x.shape[-1] // width))
    return _resample(x, *(_average_matrix(n, m, x.device) for n, m in zip(x.shape[-2:], (height, width), strict=True)))


def resize_bilinear(x: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.interpolate(x, (height, width), mode="bilinear")``, up to rounding: [B, C, H, W] -> [B, C, height,
    width]."""
    if x.device.type in _torch_kernels:
        return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
    return _resample(x, *(_bilinear_matrix(n, m, x.device) for n, m in zip(x.shape[-2:], (height, width), strict=True)))


def resize_antialiased(x: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.interpolate(x, (height, width), mode="bilinear", antialias=True)``, up to rounding: [B, C, H, W] ->
    [B, C, height, width]. An image of that size is returned as it is."""
    if x.shape[-2:] == (height, width):
        return x
    if x.device.type in _torch_kernels:
        return F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return _resample(
        x, *(_antialias_matrix(n, m, x.device) for n, m in zip(x.shape[-2:], (height, width), strict=True))
    )


def _resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``rows @ x @ columns.T`` in the format of ``x``, computed in float32 or better, also under autocast."""
    wide = torch.promote_types(x.dtype, torch.float32)
    kind = x.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        return (rows.to(wide) @ (x.to(wide) @ columns.T.to(wide))).to(x.dtype)


def _cached(make: Callable[[int, int, torch.device], Tensor]) -> Callable[[int, int, torch.device], Tensor]:
    """Keep the matrices of a device: made in each step they would be launches, or a transfer that waits."""
    kept = functools.lru_cache(maxsize=64)(make)

    @functools.wraps(make)
    def get(inside: int, outside: int, device: torch.device) -> Tensor:
        if torch.compiler.is_compiling() or device.type == "meta" or torch._C._len_torch_dispatch_stack():
            return make(inside, outside, device)  # a matrix of a trace, or of fake tensors, is good only there
        with torch.inference_mode(False), torch.no_grad():  # made in evaluation, a step must be able to save it
            return kept(inside, outside, device)

    return get


@_cached
def _average_matrix(inside: int, outside: int, device: torch.device) -> Tensor:
    """Return the matrix [outside, inside] that averages as adaptive pooling does: from floor(i n / m), to ceil."""
    own, place = torch.arange(outside, device=device)[:, None], torch.arange(inside, device=device)
    first, end = own * inside // outside, ((own + 1) * inside + outside - 1) // outside
    return ((place >= first) & (place < end)).float() / (end - first)


@_cached
def _bilinear_matrix(inside: int, outside: int, device: torch.device) -> Tensor:
    """Return the matrix [outside, inside] of linear interpolation between the centres of pixels."""
    unit = 2 * outside  # of a distance between pixels; in these units all centres are whole numbers
    centre = (2 * torch.arange(outside, device=device) + 1) * inside - outside
    centre = centre.clamp(0, unit * (inside - 1))  # before the first centre its value is repeated, as after the last
    apart = (centre[:, None] - unit * torch.arange(inside, device=device)).abs()
    return (unit - apart).clamp(min=0).float() / unit


@_cached
def _antialias_matrix(inside: int, outside: int, device: torch.device) -> Tensor:
    """Return the matrix [outside, inside] of a triangle filter as wide as two pixels of the coarser of both images."""
    unit = 2 * max(inside, outside)  # of a distance in pixels of the coarser image; all centres are whole numbers
    own, place = torch.arange(outside, device=device)[:, None], torch.arange(inside, device=device)
    apart = ((2 * own + 1) * inside - (2 * place + 1) * outside).abs()
    weight = (unit - apart).clamp(min=0).float()
    return weight / weight.sum(-1, keepdim=True)
