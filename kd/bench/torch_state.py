"""Settings of torch that hold for the whole process: each job gets its own, and leaves none behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic


def plain_torch(threads: int | None) -> dict[str, object]:
    """Return torch's settings before the framework changed any, with this number of threads.

    Every job begins with them: a person's loop and torchdistill keep them, the framework then sets its own.
    """
    if threads:
        torch.set_num_threads(threads)
    return torch_state()


def torch_state() -> dict[str, object]:
    """Return the settings that a program may change for the whole process."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill_uninitialized_memory": deterministic.fill_uninitialized_memory,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "grad": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast_cuda": torch.is_autocast_enabled("cuda"),
        "default_dtype": torch.get_default_dtype(),
    }


def set_torch_state(state: dict[str, object]) -> None:
    if torch.get_num_threads() != state["threads"]:
        torch.set_num_threads(state["threads"])
    torch.use_deterministic_algorithms(state["deterministic"], warn_only=state["warn_only"])
    deterministic.fill_uninitialized_memory = state["fill_uninitialized_memory"]
    torch.backends.cudnn.benchmark = state["cudnn.benchmark"]
    torch.backends.cudnn.deterministic = state["cudnn.deterministic"]
    torch.backends.cudnn.allow_tf32 = state["cudnn.allow_tf32"]
    torch.set_float32_matmul_precision(state["matmul_precision"])
    torch.set_grad_enabled(state["grad"])
    torch.set_autocast_enabled("cpu", state["autocast"])
    torch.set_autocast_enabled("cuda", state["autocast_cuda"])
    torch.set_default_dtype(state["default_dtype"])


@contextmanager
def own_torch_state(state: dict[str, object] | None = None) -> Iterator[None]:
    """Begin with ``state`` (None: as it is), and end with the settings and random numbers of before."""
    before = torch_state()
    try:
        with torch.random.fork_rng():
            if state is not None:
                set_torch_state(state)
            yield
    finally:
        set_torch_state(before)
