"""How much memory something takes at most, as the system counts it: libraries in C ask nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth() -> Callable[[], float]:
    """Return what says by how many megabytes this process has grown at most since now."""
    if not RESET.exists():
        pytest.skip("only Linux says what a process had at most")
    RESET.write_text("5")  # the peak so far is forgotten
    before = _megabytes("VmRSS")
    return lambda: _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
