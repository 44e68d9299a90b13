"""Explain out-of-memory errors: which settings were too large, and what to set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kd.runtime.errors import first_line

MESSAGES = (
    *("can't allocate memory", "out of memory", "bad_alloc"),  # torch's allocators, C++
    *("alloc_failed", "allocation_failed"),  # cuBLAS and cuDNN 8; cuDNN 9
    # torch, after each engine of cuDNN has failed: mostly because there is no memory for its workspace
    *("unable to find an engine", "unable to find a valid cudnn algorithm"),
    "cuda calloc",  # NCCL
    "could not create a ",  # oneDNN: a primitive
)


class OutOfMemory(ValueError):
    """The run does not fit in memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in MESSAGES)


@contextmanager
def explain_out_of_memory(stage: str, what: str, smaller: str) -> Iterator[None]:
    """Turn an out-of-memory error inside the block into one that names the role and smaller settings.

    Args:
        stage: the role. what: the settings that determine the memory. smaller: smaller values of them.

    Raises:
        OutOfMemory: in place of the error of torch or NumPy.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error).rpartition("DefaultCPUAllocator: ")[2]
        raise OutOfMemory(
            f"{stage}: {what} does not fit in memory: {reason}\n"
            f"Use {smaller}, a smaller network or data.image_size, or free memory that other programs use."
        ) from error


def smaller_training(batch_size: int, grad_accum_steps: int) -> dict[str, str]:
    """Return the arguments "what" and "smaller" of ``explain_out_of_memory`` for the steps of a training."""
    what = f"train.batch_size={batch_size}"
    if grad_accum_steps > 1:
        what += f" with train.grad_accum_steps={grad_accum_steps}"
    smaller = [f"train.batch_size={batch_size // 2}"] if batch_size >= 4 else []
    if 4 * grad_accum_steps <= batch_size:
        smaller += [
            f"train.grad_accum_steps={2 * grad_accum_steps} (the same batch in micro-batches)",
            "train.batch_size=auto",
        ]
    return {"what": what, "smaller": ", ".join(smaller) or "another train.device"}
