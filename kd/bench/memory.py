"""Peak memory of a process with its children, such as the workers of a DataLoader."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

EVERY = 0.1  # seconds between two looks at the children


class Peak:
    """The largest memory, in bytes."""

    host: int | None = None  # resident in this process since its start, and private in its children; None if unknown
    device: int | None = None  # allocated by torch on the accelerator


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of this process and of the children that it has inside.

    The system itself keeps the peak of this process. Looking at a process stops it for milliseconds, so only the
    children are looked at, where there are any.
    """
    peak, stop, children = Peak(), threading.Event(), [0]

    def look() -> None:
        while not stop.wait(EVERY):
            children[0] = max(children[0], sum(map(private_bytes, descendants(os.getpid()))))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        own = peak_resident_bytes()
        peak.host = None if own is None else own + children[0]
        if device.type == "cuda":
            peak.device = torch.cuda.max_memory_allocated(device)


def peak_resident_bytes() -> int | None:
    """Return the largest memory that this process ever had; None if the system does not say."""
    return _kilobytes(Path("/proc/self/status"), ("VmHWM:",))


def private_bytes(process: int) -> int:
    """Return the memory that a process shares with no other; 0 if it has ended."""
    return _kilobytes(Path(f"/proc/{process}/smaps_rollup"), ("Private_Clean:", "Private_Dirty:")) or 0


def _kilobytes(path: Path, names: tuple[str, ...]) -> int | None:
    """Return the sum of the lines of these names, in bytes."""
    with suppress(OSError, ValueError):
        lines = [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
        return sum(1024 * int(line[1]) for line in lines if line and line[0] in names) or None
    return None


def descendants(process: int) -> list[int]:
    """Return the processes that descend from one."""
    found = [process]
    for parent in found:
        with suppress(OSError, ValueError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found[1:]
