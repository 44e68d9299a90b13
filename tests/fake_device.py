"""Steps on fake tensors: what an accelerator would do, without one.

``torch``'s fake tensors have a shape and a device and no values. Every operation checks its devices, and a value that
the host wants to read is an error. On the fake device ``cuda`` everything runs but the backward pass, for which the
autograd engine wants a driver. On the fake device ``meta`` backward pass and optimiser run too, but not autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._functorch import config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kd.runtime.device import Device

# without a deterministic kernel on CUDA, by the documentation of torch.use_deterministic_algorithms
UNDETERMINED = (
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward"),
    *("avg_pool3d_backward", "max_pool3d_with_indices_backward", "fractional_max_pool2d_backward"),
    *("upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "upsample_linear1d_backward"),
    *("reflection_pad2d_backward", "replication_pad2d_backward", "grid_sampler_2d_backward"),
    *("histc", "put", "put_", "_ctc_loss_backward", "median"),
)


READS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "allclose")


class Watch(TorchDispatchMode):
    """Notes what would make the host wait, fail, or differ from run to run; counts operations.

    Attributes:
        found: one line each: a copy from the device, float64 on the device (MPS has none), an operation whose bits
            differ from run to run. arrived: copies to the device, which wait unless the memory is pinned. shifts: of
            integers on the device, which have been wrong on MPS. reads: of values by the host, seen on real tensors
            too.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.operations = kind, 0
        self.found, self.arrived, self.shifts, self.reads = [], [], [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().partition("::")[2].partition(".")[0]
        self.reads += [name] * (name in READS)
        output = function(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
        self.operations += bool(made) and not function.is_view
        if name in UNDETERMINED:
            self.found.append(f"{name} is not deterministic")
        if name in ("__rshift__", "bitwise_right_shift") and any(self._is_on_device(x) for x in made):
            self.shifts.append(name)
        if name == "copy_":  # into the first
            made, given = given[:1], given[1:]
        here, there = (any(self._is_on_device(x) for x in some) for some in (made, given))
        if there and made and not here:
            self.found.append(f"{name} copies from the device")
        # a number on the CPU is an argument of a kernel; an index is copied
        if here and any(not self._is_on_device(x) and (x.ndim or name in ("_to_copy", "copy_")) for x in given):
            self.arrived.append(name)
        if any(self._is_on_device(x) and x.dtype == torch.float64 for x in made):
            self.found.append(f"{name} makes float64 on the device")
        return output

    def _is_on_device(self, x: Tensor) -> bool:
        return x.device.type == self.kind


class FakeDevice:
    """A ``Device`` of fake tensors: "cuda" in bfloat16, "meta" in float32. (On "mps" torch ends the process.)"""

    def __init__(self, kind: str):
        self.kind = kind
        with patch.object(config, "fake_tensor_allow_meta", kind == "meta"):
            self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        precision = torch.bfloat16 if kind == "cuda" else torch.float32
        self.device = Device(torch.device(kind), precision, channels_last=True)

    def move(self, module: nn.Module) -> nn.Module:
        """Move a real module to the device, with the code that does it on a real one."""
        return self.prepare(lambda: self.device.to_device(module))

    def prepare(self, make: Callable[[], Any]) -> Any:
        """Return what ``make`` makes of real modules and tensors; modules may already be on the device."""
        self.mode.allow_non_fake_inputs = True
        # a fake weight that is moved again cannot take the place of another, and need not
        with self.mode, patch("torch.utils.swap_tensors", lambda old, new: None):
            return make()

    def run(self, step: Callable[[], object]) -> Watch:
        """Run a step of modules that were moved. A real tensor in it is an error, as one that stayed behind."""
        self.mode.allow_non_fake_inputs = False
        watch = Watch(self.kind)
        with self._autocast_as_there(), self.mode, watch:
            try:
                step()
            except Exception as error:
                watch.found.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return watch

    @contextmanager
    def _autocast_as_there(self) -> Iterator[None]:
        """torch switches autocast off where there is no CUDA."""
        with ExitStack() as patches:
            patches.enter_context(patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
            patches.enter_context(patch("torch.cuda.is_bf16_supported", lambda: True))
            yield
