"""Where and how numbers are computed: device, precision, memory format, threads."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Machine:
    """What ``train.device``, ``train.precision``, ``train.channels_last`` and ``train.threads`` came to."""

    device: torch.device
    precision: torch.dtype
    channels_last: bool

    def prepare(self, network: nn.Module) -> nn.Module:
        """Move a network here; channels-last is a format of the memory, not of the numbers."""
        order = torch.channels_last if self.channels_last else torch.preserve_format
        return network.to(self.device, memory_format=order)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Mixed precision for training and for the teacher beside it. Evaluation is always float32."""
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
            "device_name": _device_name(self.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "precision": str(self.precision).removeprefix("torch."),
        }


def find_machine(
    device: str = "auto", precision: str = "auto", channels_last: bool = True, threads: int | None = None
) -> Machine:
    """Resolve the settings of ``train`` against the hardware, and set torch up for equal bits at equal seeds.

    ``precision=auto`` is bfloat16 where the hardware multiplies it natively (CUDA from Ampere on; x86 with AMX, where
    it was 1.5x faster for the default teacher and 1.9x for the student) and float32 elsewhere.

    Raises:
        ValueError: a device that is not there, an unknown precision.
    """
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"train.device={device} is not usable here: {str(error).splitlines()[0]}") from error
    place = torch.device(device)
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision == "auto":
        dtype = torch.bfloat16 if _multiplies_bfloat16(place) else torch.float32
    elif precision in choices:
        dtype = choices[precision]
    else:
        raise ValueError(f"train.precision must be auto, {' or '.join(choices)}, got {precision!r}")
    if place.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, in evaluation above all
    return Machine(place, dtype, channels_last and place.type != "mps")


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if device.type == "cpu" and info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
