"""The machine's own ceiling: how fast could these networks be, if nothing but their arithmetic and memory counted?

Two rates of the machine are measured: of a large matrix product, in the precision that a job trains in, and of a large
copy. A layer of convolution or matrix product cannot be faster than its multiplications at the first rate, nor than
reading its inputs and writing its outputs at the second. The floor of a network is the sum of the slower of the two
over its layers. A training step runs each layer three times: forward, for the gradient of its input (which the first
layer does not need), and for that of its weights. What could be fused into a neighbour (norms, activations, pooling)
costs nothing in the floor, nor does the optimiser.

It is a floor for programs that keep a layer's activations in memory: layers that are small enough for the caches can be
faster than the copy of a large array, so a share slightly above 100 % is possible for tiny networks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from kd.runtime.device import Device

SECONDS = 0.4  # of each measurement
COPY_BYTES = 2**28  # larger than any cache


class Rates(NamedTuple):
    """What the machine can do."""

    flops_per_s: float  # of a matrix product, counting a multiplication and an addition as two
    bytes_per_s: float  # of a copy, counting what is read and what is written


class Layer(NamedTuple):
    """One convolution or matrix product, for a whole batch."""

    flops: int
    numbers: int  # of inputs, weights and outputs


def measure_rates(device: Device) -> Rates:
    """Measure both rates with the threads that torch has now: the best of several sizes and of all repetitions."""
    sizes = (1024, 2048) if device.device.type == "cpu" else (4096, 8192)
    rates = []
    for size in sizes:
        a, b = (torch.randn(size, size, device=device.device).to(device.precision) for _ in range(2))
        rates.append(2 * size**3 / _best(lambda a=a, b=b: torch.mm(a, b), device))
    source = torch.ones(COPY_BYTES // 4, device=device.device)
    target = torch.empty_like(source)
    return Rates(max(rates), 2 * COPY_BYTES / _best(lambda: target.copy_(source), device))


def _best(call: Callable[[], Any], device: Device) -> float:
    """Return the seconds of the fastest call."""
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        call()
        device.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


class _Layers(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Layer] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if count := flop_registry.get(func._overloadpacket):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.found.append(Layer(count(*args, **kwargs, out_val=out), sum(tensor.numel() for tensor in tensors)))
        return out


def layers(network: nn.Module, image_size: int, batch_size: int) -> list[Layer]:
    """Return the convolutions and matrix products of one forward pass, in their order; nothing is computed."""
    network = copy.deepcopy(network).to("meta").eval()
    image = torch.empty(batch_size, 3, image_size, image_size, device="meta", requires_grad=True)
    with _Layers() as mode:
        network(image)
    return mode.found


def floor_seconds(of: list[Layer], rates: Rates, bytes_a_number: int) -> tuple[float, float]:
    """Return the least seconds of a forward pass and of a training step."""
    each = [max(x.flops / rates.flops_per_s, x.numbers * bytes_a_number / rates.bytes_per_s) for x in of]
    return sum(each), 3 * sum(each) - (each[0] if each else 0.0)
