"""Peak memory of a process with its children, such as the workers of a DataLoader."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

EVERY = 0.05  # seconds between two looks


def resident_bytes(process: int) -> int | None:
    """Return the memory of a process; a page that it shares with others counts by its share. None if unknown."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return None


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [process]
    for parent in found:
        with suppress(OSError, ValueError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


class Peak:
    """The largest memory that was seen, in bytes; ``host`` is None where the system does not say."""

    host: int | None = None
    device: int | None = None  # allocated by torch on the accelerator


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Watch the memory of this process and its children in a thread."""
    peak, stop = Peak(), threading.Event()

    def look() -> None:
        while not stop.wait(EVERY):
            sizes = [size for process in family(os.getpid()) if (size := resident_bytes(process)) is not None]
            if sizes:
                peak.host = max(peak.host or 0, sum(sizes))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        if device.type == "cuda":
            peak.device = torch.cuda.max_memory_allocated(device)
