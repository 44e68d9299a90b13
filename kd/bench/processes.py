"""Measurements with processes: two runs at once, start-up to the first step."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kd.bench.setting import Setting
from kd.bench.worker import Worker

STEP = re.compile(rb"\b[1-9]\d*/\d+ \[")  # of a progress bar that has taken a step
PATIENCE = 600.0  # seconds for a run to take its first step


def two_at_once(setting: Setting, job: str, rounds: int) -> dict[str, Any]:
    """Train one job alone and in two processes at once, in turns.

    Returns:
        Images/s of one process alone (the median), of both together (the sum of the two), and the share of the machine
        that is lost: 1 - together / alone. 0 is a machine perfectly shared.
    """
    with Worker(setting, job) as first, Worker(setting, job) as second:
        images = first.receive()["images"]
        second.receive()
        alone, together = [], []
        for number in range(rounds):
            alone.append(images / (first, second)[number % 2].train()["epoch_seconds"])
            for worker in (first, second):
                worker.send("train")
            together.append(sum(images / worker.receive()["epoch_seconds"] for worker in (first, second)))
    one, both = statistics.median(alone), statistics.median(together)
    return {"job": job, "alone": alone, "together": together, "lost": 1 - both / one}


def start_up(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """Start ``python -m kd.run`` and wait for its first training step; then interrupt it.

    The process writes to a pseudo-terminal, because there a run has a progress bar. A bar is drawn after a step if the
    last time was over 0.1 s ago, so on a fast machine the figure is up to 0.1 s too late, and never too early. Nothing
    of the run is changed. The decoded data exist already, as for any run but the first; nothing else does.

    Returns:
        ``{"seconds"}``, or ``{"left_out": why}`` on a system without pseudo-terminals.

    Raises:
        RuntimeError: the run ended before it took a step.
    """
    try:
        import pty
        import termios
    except ImportError:
        return {"left_out": "this system has no pseudo-terminals"}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))  # else it has no columns, and the bar no numbers
    command = [sys.executable, "-m", "kd.run", *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True
    )
    os.close(theirs)
    shown, seen = b"", False
    try:
        while not seen and time.perf_counter() - began < PATIENCE:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # Linux's end of a pseudo-terminal
                break
            seen = bool(STEP.search(shown))
        seconds = time.perf_counter() - began
    finally:
        _end(process, ours)
    if not seen:
        raise RuntimeError(f"the run took no step: {shown[-600:].decode(errors='replace')}")
    return {"seconds": seconds}


def _end(process: subprocess.Popen, terminal: int) -> None:
    """Interrupt a run, and kill what is left of its group after a while; read on, so that it can write."""
    import select

    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    limit = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < limit:
        with suppress(OSError):
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 4096)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    os.close(terminal)
