"""The cost of a network: parameters, multiply-accumulates, bytes, milliseconds (``kd/evaluation/latency.py``)."""

from __future__ import annotations

import copy
import json
import platform
import time
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kd.evaluation.latency import latency
from kd.records.run_folder import is_calm
from kd.runtime.device import Device
from kd.runtime.resampling import torch_kernels
from kd.store.files import find_damage
from kd.store.locks import locked
from kd.store.store import KEY_DIGITS, Store, digest

VERSION = 4  # of the way costs are measured; raise it, and every network is measured again
RETRY_AFTER = 60.0  # seconds after which a network that was timed on a busy machine is timed again
_busy: dict[str, tuple[float, dict[str, Any]]] = {}  # name -> time and result of a measurement on a busy machine


def params(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, image_size: int) -> int:
    """Return multiply-accumulates of convolutions and matrix products for one image [3, S, S]: half of the FLOPs.

    Counted on a CPU: an accelerator computes some operations by other ones, and the number must not depend on it.
    """
    was = network.training
    device = next(chain(network.parameters(), network.buffers())).device
    if device.type not in ("cpu", "meta"):
        network, device = copy.deepcopy(network).cpu(), torch.device("cpu")
    network.eval()
    # with gradients, and attention written out: fused kernels are not seen by the counter
    image = torch.zeros(1, 3, image_size, image_size, device=device, requires_grad=True)
    with torch_kernels(device.type), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was)
    return counter.get_total_flops() // 2


def size_mb(network: nn.Module) -> float:
    """Return the size of the network as a safetensors file, in megabytes (2^20 bytes)."""
    return len(safetensors.torch.save(state_of(network))) / 2**20


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict as safetensors requires it: on the CPU, contiguous, each tensor with its own storage."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def costs(
    network: nn.Module,
    image_size: int,
    device: Device,
    published_extra: int = 0,
    batch: int = 64,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Return all costs of one network that ``result.json`` holds.

    Args:
        batch, seconds: see ``latency``.
        published_extra: parameters of the published class that no forward pass touches; they are not in ``network``.
    """
    count = params(network)
    return {
        "params": count,
        "params_published": count + published_extra,
        "macs": macs(network, image_size),
        "size_mb": size_mb(network),
        **latency(network, image_size, device, batch, seconds),
    }


def cached_costs(
    store: Store, settings: dict[str, Any], network: nn.Module, image_size: int, device: Device, **measured: Any
) -> dict[str, Any]:
    """Return ``costs``, from the store if this architecture was measured on this machine before.

    So all students of a sweep that differ only in their weights share one latency, measured once, and measurement noise
    is in no comparison between them. A measurement on a busy machine is returned and marked (``latency_ms``: ``calm``)
    but not cached: the first call ``RETRY_AFTER`` seconds later measures again. To measure everything again, delete
    ``costs/`` in the outputs folder.

    Args:
        settings: the settings that determine the architecture. measured: the further arguments of ``costs``.
    """
    about = {name: value for name, value in device.describe().items() if name != "precision"}
    how = {"version": VERSION, "channels_last": device.channels_last, **measured}
    whole = {**settings, "image_size": image_size, "machine": about, **how}
    name = digest(whole)[:KEY_DIGITS]
    cached = store.path("costs", name) / "costs.json"
    host = digest({"host": platform.node()})[:KEY_DIGITS]
    with locked(store.root / ".locks" / f"measure-{host}.lock", "a measurement"):  # two at once disturb each other
        if cached.is_file() and not find_damage(cached.parent):
            return json.loads(cached.read_text(encoding="utf-8"))
        if name in _busy and time.monotonic() - _busy[name][0] < RETRY_AFTER:
            return _busy[name][1]
        result = costs(network, image_size, device, **measured)
        if not is_calm(result):
            store.remove_partial("costs", name)
            _busy[name] = time.monotonic(), result
            return result

        def publish(folder: Path) -> None:
            (folder / "costs.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
            (folder / "settings.json").write_text(json.dumps(whole, indent=1, sort_keys=True), encoding="utf-8")

        store.get_or_create("costs", name, publish)
    return result
