"""Settings of this process that must be made before torch is imported: how threads wait, how memory is reused.

Each was chosen by measurement; experiments/speed.md has the figures.
"""

from __future__ import annotations

import ctypes
import os

# How often an OpenMP thread of torch looks before it sleeps while it waits for another. With the default, 300,000, it
# keeps its core from other programs for milliseconds; with 1,000, or 0 (OMP_WAIT_POLICY=passive), a run that is alone
# is slower, and so are the latencies of its networks.
SPIN_COUNT = "30000"
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
MALLOC_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, from malloc.h


def configure_process() -> None:
    """Set waiting and memory of this process, and of those that it starts, unless the user set them.

    Call it before torch is imported: OpenMP reads its variables once.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    if not any(name in os.environ for name in MALLOC_SETTINGS):
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let malloc reuse large blocks, where the C library is glibc; return whether it does.

    By default glibc maps each block above 32 MB anew and gives it back when it is freed. So every step of a training
    has the kernel clear the pages of its activations again, which took up to a third of a step. The process keeps its
    largest size instead until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc, or Windows
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
