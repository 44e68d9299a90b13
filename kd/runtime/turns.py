"""Runs on one CPU take turns, step by step, because computing at the same time stalls them all.

A step is thousands of short parallel loops, whose threads wait for each other: spinning on a core that another run
needs, or asleep, which costs a run that is alone. In bfloat16 oneDNN's threads wait in a loop that never sleeps,
whatever OpenMP's settings are: two trainings of two threads each on two cores did a fifteenth of the work of one. So
each process takes as many cores as it has threads for the length of a step. A core is a locked file, so a process that
dies gives its cores back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kd.runtime.console import print_line

try:
    import fcntl
except ImportError:  # Windows: no turns
    fcntl = None

PAUSE = 0.0005  # seconds between two looks for a free core
PATIENCE = 30.0  # seconds, after which a process computes without a turn: another may have been stopped in its own
RETRY = 20  # times as long it then computes without turns, before it waits again


class Turns:
    """Cores of this machine that the user's processes share.

    Args:
        count: cores that a turn needs; 0: every turn begins at once.
        folder: holds a file for each core; by default one for this user on this machine.
    """

    def __init__(self, count: int = 0, folder: Path | None = None):
        self.count = 0
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if not count or fcntl is None or not cores:
            return
        folder = folder or Path(tempfile.gettempdir()) / f"kd-cores-{os.getuid()}"
        with suppress(OSError):  # no folder for temporary files: no turns
            folder.mkdir(exist_ok=True)
            self.queue = os.open(folder / "queue.lock", os.O_RDWR | os.O_CREAT, 0o600)
            self.cores = [os.open(folder / f"core-{core}.lock", os.O_RDWR | os.O_CREAT, 0o600) for core in cores]
            self.count = min(count, len(self.cores))
        self.held: list[int] = []
        self.alone_until = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run the block while this process holds its cores; inside another turn of this process, at once."""
        if not self.count or self.held or time.monotonic() < self.alone_until:
            yield
            return
        try:
            self._take()
            yield
        finally:
            for core in self.held:
                fcntl.flock(core, fcntl.LOCK_UN)
            self.held = []

    def _take(self) -> None:
        deadline = time.monotonic() + PATIENCE
        if not _lock(self.queue, deadline):  # one process at a time takes cores, so no two hold a part each
            self._give_up()
            return
        try:
            while True:
                free = (core for core in self.cores if core not in self.held)
                for core in free:
                    if len(self.held) < self.count and _lock(core):
                        self.held.append(core)
                if len(self.held) == self.count:
                    return
                if time.monotonic() > deadline:
                    self._give_up()
                    return
                time.sleep(PAUSE)
        finally:
            fcntl.flock(self.queue, fcntl.LOCK_UN)

    def _give_up(self) -> None:
        print_line(f"another run has kept the cores for {PATIENCE:.0f} s: computing beside it")
        self.alone_until = time.monotonic() + RETRY * PATIENCE


def _lock(file: int, deadline: float = 0.0) -> bool:
    """Lock a file, trying until ``deadline``; return whether it is locked."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)


NO_TURNS = Turns()
