"""Progress of a sweep while its jobs run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd.records.ledger import FINISHED, Cell, Sweep, read_sweep
from kd.runtime.values import format_override


class SweepMonitor:
    """Reads the ledger while the jobs run; prints the outcome of each and the remaining time."""

    def __init__(self, folder: Path, outputs: Path, tracking: dict[str, Any]):
        self.folder, self.outputs, self.tracking = folder, outputs, tracking
        self.reported = set[tuple[str, ...]]()
        self.before = {cell.overrides: cell.began for cell in read_sweep(folder, results=False).cells}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="sweep progress", daemon=True)
        self.thread.start()

    def stop(self) -> Sweep:
        """Stop following; print the jobs that ended since the last look, and return the sweep."""
        self.over.set()
        self.thread.join()
        return self.look()

    def _follow(self) -> None:
        pause = 0.5
        while not self.over.wait(pause):
            began = time.perf_counter()
            with contextlib.suppress(
                OSError, ValueError
            ):  # after an error of the file system, the next look tries again
                self.look()
            pause = max(0.5, 20 * (time.perf_counter() - began))  # a large ledger takes a while to read

    def look(self) -> Sweep:
        """Print the jobs that ended since the last look, and return the sweep."""
        from kd.runtime.console import print_line

        sweep = read_sweep(self.folder, results=False)
        for number, cell in enumerate(sweep.cells, 1):
            is_over = cell.seconds is not None  # a running job whose run folder is finished has the status "found", too
            ended = is_over and cell.status in (*FINISHED, "failed", "refused") and self.is_new(cell)
            if ended and cell.overrides not in self.reported:
                self.reported.add(cell.overrides)
                print_line(line_of(cell, number, sweep.total))
                print_line(f"  {progress_of(sweep, self.is_new)}")
        return sweep

    def is_new(self, cell: Cell) -> bool:
        """Whether a job began after this command; compares with the ledger, since clocks of machines differ."""
        return cell.began is not None and cell.began != self.before.get(cell.overrides)


def line_of(cell: Cell, number: int, total: int) -> str:
    """Return the outcome of one job in a line."""
    overrides = " ".join(map(format_override, cell.overrides)) or "(nothing swept)"
    if cell.status in ("failed", "refused"):
        words = "FAILED" if cell.status == "failed" else cell.status
        return f"cell {number}/{total} {words}  {overrides}\n  {cell.error}"
    status = "reused" if cell.status == "found" else cell.status
    return f"cell {number}/{total} {status}  {overrides}  validation {100 * cell.value:.2f} %  {cell.seconds:.0f} s"


def progress_of(sweep: Sweep, is_new: Callable[[Cell], bool]) -> str:
    """Return the progress of a sweep, and its remaining time at the pace of the jobs that ran."""
    from kd.runtime.console import format_minutes

    failed = sum(cell.status == "failed" and is_new(cell) for cell in sweep.cells)  # jobs that failed earlier run again
    refused = sweep.count("refused")
    left = sweep.total - sweep.count(*FINISHED) - failed - refused
    parts = [f"{sweep.count(*FINISHED)} of {sweep.total} finished"]
    counts = {"running": sweep.count("running"), "failed": failed, "refused": refused}
    parts += [f"{count} {status}" for status, count in counts.items() if count]
    new = [cell for cell in sweep.cells if cell.status == "done" and is_new(cell)]
    spent = [max(0.0, cell.seconds - cell.teaching) for cell in new]
    if left and spent:
        parts.append(f"about {format_minutes(left * sum(spent) / len(spent) / max(1, sweep.count('running')))} left")
    return ", ".join(parts)
