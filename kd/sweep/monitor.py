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
    """Reads the ledger while the cells run, and says what became of each and how long the rest will take."""

    def __init__(self, folder: Path, outputs: Path, tracking: dict[str, Any]):
        self.folder, self.outputs, self.tracking = folder, outputs, tracking
        self.told = set[tuple[str, ...]]()
        self.before = {cell.overrides: cell.began for cell in read_sweep(folder, results=False).cells}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="sweep progress", daemon=True)
        self.thread.start()

    def stop(self) -> Sweep:
        self.over.set()
        self.thread.join()
        return self.look()

    def _follow(self) -> None:
        pause = 0.5
        while not self.over.wait(pause):
            began = time.perf_counter()
            with contextlib.suppress(OSError, ValueError):  # a hiccup of a file system is not the end of the lines
                self.look()
            pause = max(0.5, 20 * (time.perf_counter() - began))  # a large ledger takes a while to read

    def look(self) -> Sweep:
        """Tell what ended since the last look."""
        from kd.runtime.console import print_line

        sweep = read_sweep(self.folder, results=False)
        for number, cell in enumerate(sweep.cells, 1):
            told = cell.seconds is not None  # one that is about to be found again counts as found, but goes on
            ended = told and cell.status in (*FINISHED, "failed") and self.is_new(cell)
            if ended and cell.overrides not in self.told:
                self.told.add(cell.overrides)
                print_line(line_of(cell, number, sweep.total))
                print_line(f"  {progress_of(sweep, self.is_new)}")
        return sweep

    def is_new(self, cell: Cell) -> bool:
        """Whether a cell began since this command did; by the ledger, for the clocks of machines differ."""
        return cell.began is not None and cell.began != self.before.get(cell.overrides)


def line_of(cell: Cell, number: int, total: int) -> str:
    """What became of one cell, in a line."""
    overrides = " ".join(map(format_override, cell.overrides)) or "(nothing swept)"
    if cell.status == "failed":
        return f"cell {number}/{total} FAILED  {overrides}\n  {cell.error}"
    return (
        f"cell {number}/{total} {cell.status}  {overrides}  validation {100 * cell.value:.2f} %  {cell.seconds:.0f} s"
    )


def progress_of(sweep: Sweep, is_new: Callable[[Cell], bool]) -> str:
    """How far a sweep is, and how long the rest will take at the pace of the cells that were run."""
    from kd.runtime.console import format_minutes

    failed = sum(cell.status == "failed" and is_new(cell) for cell in sweep.cells)  # the others are tried again
    left = sweep.total - sweep.count(*FINISHED) - failed
    told = [f"{sweep.count(*FINISHED)} of {sweep.total} finished"]
    told += [
        f"{count} {status}" for status, count in (("running", sweep.count("running")), ("failed", failed)) if count
    ]
    run = [cell for cell in sweep.cells if cell.status == "done" and is_new(cell)]
    spent = [max(0.0, cell.seconds - cell.teaching) for cell in run]
    if left and spent:
        told.append(f"about {format_minutes(left * sum(spent) / len(spent) / max(1, sweep.count('running')))} left")
    return ", ".join(told)
