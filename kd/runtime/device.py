"""Device, precision, memory format and threads of the computation."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd.runtime.errors import first_line
from kd.runtime.precision import prefers_bfloat16
from kd.runtime.turns import NO_TURNS, Turns


@dataclass(frozen=True)
class Device:
    """The resolved settings ``train.device``, ``train.precision`` and ``train.channels_last``."""

    device: torch.device
    precision: torch.dtype
    channels_last: bool
    turns: Turns = NO_TURNS  # with other runs on this machine: ``with device.turns(): ...`` around each step

    def to_device(self, network: nn.Module) -> nn.Module:
        """Move a network to the device; channels-last changes its layout in memory, not its values."""
        order = torch.channels_last if self.channels_last else torch.preserve_format
        if self.device.type == "cpu" and self.precision == torch.bfloat16:
            run_narrow_convs_in_float32(network)
        if self.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
            subsample_before_pointwise_convs(network)
        return network.to(self.device, memory_format=order)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Mixed precision for training and for the teacher. Evaluation is always float32."""
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def __str__(self) -> str:
        about = self.describe()
        return f"{about['device']} with {about['threads']} threads, training in {about['precision']}"

    def describe(self) -> dict[str, str | int]:
        return {
            "device": self.device.type,
            "device_name": device_name(self.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "precision": str(self.precision).removeprefix("torch."),
        }


def resolve_torch_device(device: str, number: int | None = None) -> torch.device:
    """Return the device that ``train.device`` names, after a small test on it. ``resolve_device`` takes a second more.

    Raises:
        ValueError: the device is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if number is not None:
        device = {"cuda": f"cuda:{number}", "mps": "cpu"}.get(device, device)  # gloo has no mps
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"train.device={device} is not usable here: {first_line(error)}") from error
    return torch.device(device)


def resolve_device(
    device: str = "auto",
    precision: str = "auto",
    channels_last: bool = True,
    threads: int | None = None,
    number: int | None = None,
) -> Device:
    """Resolve the settings of ``train`` for this hardware, and set torch up for equal bits at equal seeds.

    ``precision=auto`` is bfloat16 where ``prefers_bfloat16``, and float32 elsewhere.

    Args:
        number: rank among the processes of this machine that share the work, and index of the GPU; None for one.

    Raises:
        ValueError: the device is not available, or the precision is unknown.
    """
    if threads:
        torch.set_num_threads(threads)
    place = resolve_torch_device(device, number)
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision == "auto":
        dtype = torch.bfloat16 if prefers_bfloat16(place) else torch.float32
    elif precision in choices:
        dtype = choices[precision]
    else:
        raise ValueError(f"train.precision must be auto, {' or '.join(choices)}, got {precision!r}")
    if place.type == "cuda":
        if number is not None:
            torch.cuda.set_device(place)  # NCCL needs it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # else each new tensor is filled with NaN first
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, above all in evaluation
    turns = NO_TURNS
    if place.type == "cpu" and number is None and torch.get_num_threads() > 1:  # one thread waits for no other
        turns = Turns(torch.get_num_threads())
    return Device(place, dtype, channels_last and place.type != "mps", turns)


def run_narrow_convs_in_float32(network: nn.Module) -> None:
    """Run convolutions over maps narrower than their stride in float32, also under autocast.

    On x86 with AMX (torch 2.15) their backward pass in bfloat16 reads uninitialised memory: the gradient is arbitrary,
    sometimes NaN. First seen with the 3x3 kernels of stride 2 on 1x1 maps that a ResNet-18 has in its last stage at
    16x16, and Vision Eagle in every stage at 28x28; then tested on 7,400 random shapes: square maps fail below the
    stride and nowhere else, others also where the output is one pixel wide. Such maps are tiny, so this costs nothing.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1 and _leave_autocast not in _hooks(module):
            module.register_forward_pre_hook(_leave_autocast)
            module.register_forward_hook(_return_to_autocast, always_call=True)


def subsample_before_pointwise_convs(network: nn.Module) -> None:
    """Let 1x1 convolutions with a stride and fewer than 8 input channels read only the pixels that they use.

    On x86 with AVX2 and without AVX-512 (torch 2.14) their backward pass in float32 writes beyond its memory, and the
    process dies: with 2 to 5 channels always, with 1, 7, 8 and more never. First seen in ``tiny_resnet`` at width 0.25.
    The function and its gradients stay the same.
    """
    for module in network.modules():
        is_pointwise = isinstance(module, nn.Conv2d) and set(module.kernel_size) == {1} and not any(module.padding)
        if is_pointwise and max(module.stride) > 1 and module.in_channels // module.groups < 8:
            module.subsampled, module.stride = module.stride, (1, 1)
            module.register_forward_pre_hook(_subsample)


def _subsample(conv: nn.Conv2d, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    down, across = conv.subsampled
    return (inputs[0][..., ::down, ::across],)


def run_narrow_convs_in_autocast(network: nn.Module) -> None:
    """Undo ``run_narrow_convs_in_float32``."""
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [key for key, hook in hooks.items() if hook in (_leave_autocast, _return_to_autocast)]:
                del hooks[number]


def _hooks(module: nn.Module) -> list:
    return list(module._forward_pre_hooks.values())


def _leave_autocast(conv: nn.Conv2d, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
    (image,) = inputs
    reach = conv.dilation[1] * (conv.kernel_size[1] - 1) + 1
    padding = 0 if isinstance(conv.padding, str) else conv.padding[1]
    height, width = image.shape[-2:]
    is_narrow = width + 2 * padding - reach < conv.stride[1] and (width < conv.stride[1] or width != height)
    if not (is_narrow and torch.is_autocast_enabled("cpu")):
        return None
    conv._outside_autocast = torch.autocast("cpu", enabled=False)
    conv._outside_autocast.__enter__()
    return (image.float(),)


def _return_to_autocast(conv: nn.Conv2d, inputs: Any, output: Any) -> None:
    context = conv.__dict__.pop("_outside_autocast", None)
    if context is not None:
        context.__exit__(None, None, None)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.getdevice_name(device)
    info = Path("/proc/cpuinfo")
    if device.type == "cpu" and info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
