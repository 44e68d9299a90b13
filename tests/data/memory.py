"""Peak memory of the process, from the operating system: libraries in C allocate past Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth() -> Callable[[], float]:
    """Return a function that gives the peak growth of this process since now, in megabytes."""
    if not RESET.exists():
        pytest.skip("only Linux reports the peak memory of a process")
    RESET.write_text("5")  # resets the peak
    before = _megabytes("VmRSS")
    return lambda: _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
