"""How the benchmark starts: torch as any program finds it."""

from __future__ import annotations

from typing import Any


def plain_torch(threads: int | None) -> dict[str, Any]:
    """Return torch's settings before the framework changed any, with this number of threads.

    Every job begins with them: a person's loop and torchdistill keep them, the framework then sets its own.
    """
    import torch

    from kd.bench.torch_state import torch_state

    if threads:
        torch.set_num_threads(threads)
    return torch_state()
