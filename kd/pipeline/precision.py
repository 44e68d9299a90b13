"""What ``train.precision=auto`` means on this machine: tried once and kept, so that every run of a machine agrees."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from kd.runtime.device import device_name
from kd.runtime.distributed import World
from kd.runtime.precision import prefers_bfloat16
from kd.store.store import KEY_DIGITS, Store, digest


def choose_precision(precision: str, device: torch.device, store: Store, world: World) -> str:
    """Return ``precision``, or the faster of bfloat16 and float32 for "auto".

    The choice is kept in ``machines/`` of the store for this processor and version of torch, because two runs with
    other precisions have other keys. Of several processes the main one chooses.
    """
    if precision != "auto" or not world.is_main:
        return world.broadcast(precision)
    about = {"device": device_name(device), "torch": torch.__version__}

    def make(folder: Path) -> None:
        choice = "bfloat16" if prefers_bfloat16(device) else "float32"
        (folder / "precision.json").write_text(json.dumps({**about, "precision": choice}, indent=1), encoding="utf-8")

    folder = store.get_or_create("machines", digest(about)[:KEY_DIGITS], make)
    return world.broadcast(json.loads((folder / "precision.json").read_text(encoding="utf-8"))["precision"])
