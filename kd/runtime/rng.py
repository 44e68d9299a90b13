"""Counter-based random bits: a pure function of (seed, epoch, index).

There is no generator and no state: nothing to save, and nothing depends on order, batch, rank or device.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, as a signed number


def random_bits(seed: int | Tensor, epoch: int, index: Tensor, count: int, start: int = 0) -> Tensor:
    """Return [B, count] int64 numbers of 64 random bits each; see ``counter_device``.

    Args:
        seed: an integer, or an int64 tensor of one element. index: int64 [B]; the result is on its device.
        start: the first of the numbers that (seed, epoch, index) has, to draw others than another caller.
    """
    seed = torch.as_tensor(seed, dtype=torch.int64, device=index.device).reshape(1)
    key = _mix(_mix(seed * GOLDEN + 1) ^ (torch.full_like(seed, epoch) * GOLDEN + 2))
    rows = _mix(key ^ (index * GOLDEN + 3))
    columns = torch.arange(start + 1, start + count + 1, dtype=torch.int64, device=index.device) * GOLDEN
    return _mix(rows[:, None] + columns[None, :])


def random_uniforms(seed: int, epoch: int, index: Tensor, count: int, start: int = 0) -> Tensor:
    """Return [B, count] float64 numbers in [0, 1) that depend on (seed, epoch, index) alone; see ``random_bits``."""
    return ((random_bits(seed, epoch, index, count, start) >> 11) & 0x1F_FFFF_FFFF_FFFF).double() * 2.0**-53


def counter_device(device: torch.device) -> torch.device:
    """Return where to draw and reduce random bits for ``device``: there, or on the CPU for Apple's MPS.

    On MPS shifts of int64 have been wrong without an error, which would draw other views, masks and negatives.
    """
    return torch.device("cpu") if device.type == "mps" else device


def _mix(x: Tensor) -> Tensor:
    """Scramble int64 numbers (the finaliser of splitmix64; products wrap, shifts are made logical by a mask)."""
    x = (x ^ ((x >> 30) & 0x3_FFFF_FFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1F_FFFF_FFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1_FFFF_FFFF)


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all generators: torch's on the CPU and on ``device``, NumPy's and Python's."""
    numpy = np.random.get_state(legacy=False)
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(numpy["state"]["key"].astype(np.int64)), int(numpy["state"]["pos"])],
        "numpy_gauss": [int(numpy["has_gauss"]), float(numpy["gauss"])],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Restore the states that ``random_states`` returned."""
    torch.set_rng_state(states["torch"])
    key, position = states["numpy"]
    np.random.set_state(("MT19937", key.numpy().astype(np.uint32), position, *states["numpy_gauss"]))
    random.setstate(states["python"])
    if device.type == "cuda" and "cuda" in states:  # without it, the states come from another kind of device
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
