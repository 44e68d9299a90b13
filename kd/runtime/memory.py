"""Memory that does not suffice: what was too large is named, and what to set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kd.runtime.errors import first_line

# what torch's allocators, cuDNN, cuBLAS, C++ and oneDNN say (its "primitive" fails to be made for want of memory too)
SAID = ("can't allocate memory", "out of memory", "bad_alloc", "alloc_failed", "could not create a ")


class OutOfMemory(ValueError):
    """What was asked for does not fit into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in SAID)


@contextmanager
def explain_out_of_memory(stage: str, what: str, smaller: str) -> Iterator[None]:
    """Around what computes batches: where memory runs out, say of which stage, and what would be smaller.

    Args:
        what: the settings that size it. smaller: what they could be.

    Raises:
        TooLarge: in place of what torch or NumPy raise.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = first_line(error).rpartition("DefaultCPUAllocator: ")[2]
        raise OutOfMemory(
            f"{stage}: memory does not hold {what}: {said}\n"
            f"Say {smaller}, a smaller network or data.image_size, or close what else uses the memory."
        ) from error


def smaller_training(batch_size: int, grad_accum_steps: int) -> dict[str, str]:
    """What sizes the steps of a training, and what would be smaller, for ``in_memory``."""
    what = f"train.batch_size={batch_size}" + (
        f" in train.grad_accum_steps={grad_accum_steps}" if grad_accum_steps > 1 else ""
    )
    smaller = [f"train.batch_size={batch_size // 2}"] if batch_size >= 4 else []
    if 4 * grad_accum_steps <= batch_size:
        smaller += [
            f"train.grad_accum_steps={2 * grad_accum_steps} (the same batch in grad_accum_steps)",
            "train.batch_size=auto",
        ]
    return {"what": what, "smaller": ", ".join(smaller) or "another train.device"}
