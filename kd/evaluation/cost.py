"""What a network costs: parameters, multiply-accumulates, bytes, milliseconds (``kd/evaluation/latency.py``)."""

from __future__ import annotations

import json
import platform
import time
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kd.evaluation.latency import latency
from kd.records.run_folder import is_calm
from kd.runtime.device import Device
from kd.store.files import find_damage
from kd.store.locks import locked
from kd.store.store import KEY_DIGITS, Store, digest

VERSION = 2  # of how latency is taken; raise it, and what was measured before is measured again
AGAIN = 60.0  # seconds after which a network is timed again that was timed on a busy machine
_busy: dict[str, tuple[float, dict[str, Any]]] = {}  # when that was, and what it came to


def params(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, image_size: int) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image [3, S, S]; half of the FLOPs."""
    device = next(chain(network.parameters(), network.buffers())).device
    was = network.training
    network.eval()
    # with gradients: without them torch takes fused paths that the counter does not see
    image = torch.zeros(1, 3, image_size, image_size, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was)
    return counter.get_total_flops() // 2


def size_mb(network: nn.Module) -> float:
    """Megabytes (2^20 bytes) of the network as a safetensors file."""
    return len(safetensors.torch.save(state_of(network))) / 2**20


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict as safetensors wants it: on the CPU, contiguous, no two names on one storage."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def costs(
    network: nn.Module,
    image_size: int,
    device: Device,
    published_extra: int = 0,
    batch: int = 64,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Everything that ``result.json`` says of what one network costs.

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
    """Return ``costs``, found in the store where this architecture was measured on this machine before.

    All students of a sweep that differ in their weights alone so have one latency, taken once, and the noise of the
    clock stands in no comparison between them. What was timed on a busy machine is returned and marked
    (``latency_ms``: ``calm``) but not kept: whoever asks next, ``AGAIN`` seconds later, has it timed again. To measure
    again what was kept, remove ``costs/`` from the outputs.

    Args:
        settings: what determines the architecture. measured: the further arguments of ``costs``.
    """
    about = {name: value for name, value in device.describe().items() if name != "precision"}
    how = {"version": VERSION, "channels_last": device.channels_last, **measured}
    whole = {**settings, "image_size": image_size, "machine": about, **how}
    name = digest(whole)[:KEY_DIGITS]
    found = store.path("costs", name) / "costs.json"
    host = digest({"host": platform.node()})[:KEY_DIGITS]
    with locked(store.root / ".locks" / f"measure-{host}.lock", "a measurement"):  # two at once disturb each other
        if found.is_file() and not find_damage(found.parent):
            return json.loads(found.read_text(encoding="utf-8"))
        if name in _busy and time.monotonic() - _busy[name][0] < AGAIN:
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
