"""What a network costs: parameters, multiply-accumulates, bytes, milliseconds."""

from __future__ import annotations

import json
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kd.machine import Machine
from kd.store import SHORT, Store, damage, digest, waiting

CALM = 1.5  # p95 / p50 up to which a measurement is worth keeping: beyond it something else used the machine


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


def latency(
    network: nn.Module, image_size: int, machine: Machine, large_batch: int = 64, seconds: float = 1.0
) -> dict[str, Any]:
    """Time ``network`` as it would be deployed: float32, eval mode, after a warm-up, synchronised.

    Args:
        large_batch: images in the second batch size. seconds: about how long each of the two is timed.

    Returns:
        ``{"latency_ms": {"batch_1": {"p50", "p95"}, "batch_<n>": ...}, "throughput": images/s at the large batch}``.
    """
    network = machine.prepare(network).eval()
    result: dict[str, Any] = {"latency_ms": {}}
    for batch in (1, large_batch):
        image = torch.rand(batch, 3, image_size, image_size, device=machine.device)
        if machine.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        times: list[float] = []
        with torch.inference_mode():
            for _ in range(3):
                network(image)
            machine.synchronize()
            until = time.perf_counter() + seconds
            while len(times) < 10 or (time.perf_counter() < until and len(times) < 1000):
                start = time.perf_counter()
                network(image)
                machine.synchronize()
                times.append(1e3 * (time.perf_counter() - start))
        p50, p95 = np.percentile(times, [50, 95])
        result["latency_ms"][f"batch_{batch}"] = {"p50": float(p50), "p95": float(p95)}
    result["throughput"] = 1e3 * large_batch / result["latency_ms"][f"batch_{large_batch}"]["p50"]
    return result


def costs(
    network: nn.Module,
    image_size: int,
    machine: Machine,
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
        **latency(network, image_size, machine, batch, seconds),
    }


def costs_once(
    store: Store, settings: dict[str, Any], network: nn.Module, image_size: int, machine: Machine, **measured: Any
) -> dict[str, Any]:
    """Return ``costs``, found in the store where this architecture was measured on this machine before.

    All students of a sweep that differ in their weights alone so have one latency, taken once, and the noise of the
    clock stands in no comparison between them. A measurement that scatters is returned but not kept: the next cell
    takes its own. To measure again, remove ``costs/`` from the outputs.

    Args:
        settings: what determines the architecture. measured: the further arguments of ``costs``.
    """
    about = {name: value for name, value in machine.describe().items() if name != "precision"}
    whole = {**settings, "image_size": image_size, "machine": about, "channels_last": machine.channels_last, **measured}
    name = digest(whole)[:SHORT]
    found = store.path("costs", name) / "costs.json"
    with waiting(store.root / ".locks" / f"measure-{name}.lock", "a measurement"):  # two at once disturb each other
        if found.is_file() and not damage(found.parent):
            return json.loads(found.read_text(encoding="utf-8"))
        result = costs(network, image_size, machine, **measured)
        if all(times["p95"] <= CALM * times["p50"] for times in result["latency_ms"].values()):

            def publish(folder: Path) -> None:
                (folder / "costs.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
                (folder / "settings.json").write_text(json.dumps(whole, indent=1, sort_keys=True), encoding="utf-8")

            store.obtain("costs", name, publish)
        else:
            store.tidy("costs", name)
    return result
