"""The ledger of a sweep: the list of its cells and the status of each.

It consists of files only, so that the jobs of any launcher, on any machine, write it together while other processes
read it. ``sweep.json`` lists the cells that are known beforehand. Every job writes its entry, ``cells/<key>.json`` (the
key is that of its overrides), when it begins and when it ends. A cell's numbers are in its run folder, which other
sweeps may share.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.config.keys import key_of
from kd.records.run_folder import picked
from kd.store.files import write_text
from kd.store.store import KEY_DIGITS, digest

VERSION = 1
# others: waiting, running, failed, lost (its process died without a message), refused (its method cannot work there)
FINISHED = ("found", "done")
DAMAGE = (OSError, ValueError, KeyError, TypeError)  # what reading a damaged entry may raise


@dataclass(frozen=True)
class Cell:
    """One job of a sweep."""

    overrides: tuple[str, ...]  # from the command line, without those that all cells share
    status: str = "waiting"
    run: Path | None = None  # the run folder, once there is one
    error: str | None = None
    began: float | None = None  # seconds since 1970
    seconds: float | None = None
    value: float | None = None  # the student's validation score by train.pick_by
    teaching: float = 0.0  # seconds spent on its teacher, which the next cell reuses
    result: Mapping[str, Any] | None = None  # result.json of a finished cell

    @property
    def values(self) -> dict[str, str]:
        """The swept values as text: ``{"kd.temperature": "4", "seed": "0"}``."""
        return {key_of(override): override.partition("=")[2] for override in self.overrides}


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its folder describes it at this moment."""

    folder: Path
    command: str  # starts it again
    fixed: tuple[str, ...]  # overrides that all cells share
    swept: tuple[str, ...]  # keys of the other overrides, in the order of the command
    trials: int | None  # how many cells a search will have; None for a grid
    cells: tuple[Cell, ...]
    refused: tuple[tuple[tuple[str, ...], str], ...] = ()  # overrides of cells that were refused at the start, and why

    @property
    def name(self) -> str:
        return self.folder.name

    def count(self, *statuses: str) -> int:
        return sum(cell.status in statuses for cell in self.cells)

    @property
    def total(self) -> int:
        return max(len(self.cells), self.trials or 0)


def begin_sweep(
    folder: Path,
    command: str,
    fixed: Sequence[str],
    lasting: Sequence[str],
    swept: Sequence[str],
    cells: Sequence[Sequence[str]] | None,
    trials: int | None = None,
    refused: Sequence[tuple[Sequence[str], str]] = (),
) -> None:
    """Write ``sweep.json``. Delete the entries of an earlier sweep of this name with other settings, but not its runs.

    Args:
        fixed: overrides that all cells share. lasting: those of them that change what is computed.
        swept: keys of the other overrides. cells: overrides of each cell; None for a search, which picks them later.
        refused: overrides and a sentence: why the cells that have them cannot work.
    """
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    if (folder / "sweep.json").is_file() and read_plan(folder)["lasting"] != sorted(lasting):
        for entry in (folder / "cells").glob("*.json"):
            entry.unlink()
    planned = None if cells is None else [sorted(cell) for cell in cells]
    plan = {"version": VERSION, "command": command, "fixed": list(fixed), "lasting": sorted(lasting)}
    plan |= {"swept": list(swept), "refused": [[list(overrides), sentence] for overrides, sentence in refused]}
    write_text(folder / "sweep.json", json.dumps({**plan, "cells": planned, "trials": trials}, indent=1) + "\n")


def cell_path(folder: Path, overrides: Sequence[str]) -> Path:
    return folder / "cells" / f"{digest({'overrides': sorted(overrides)})[:KEY_DIGITS]}.json"


class JobEntry:
    """The entry that a job writes about itself."""

    def __init__(self, folder: Path, overrides: Sequence[str]):
        self.path = cell_path(folder, overrides)
        self.began = time.time()
        self.facts: dict[str, Any] = {"version": VERSION, "overrides": sorted(overrides), "began": self.began}
        self.facts |= {"host": platform.node(), "pid": os.getpid(), "run": None, "error": None, "found": False}
        self.facts |= {"value": None, "teaching": 0.0}
        with contextlib.suppress(*DAMAGE):  # the outcome of an earlier attempt holds until this one ends
            before = json.loads(self.path.read_text(encoding="utf-8"))
            self.facts |= {name: before[name] for name in ("run", "value", "teaching")}

    def write(self, status: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        seconds = None if status == "running" else time.time() - self.began
        write_text(self.path, json.dumps({**self.facts, "status": status, "seconds": seconds}, indent=1) + "\n")

    def refuse(self, sentence: str) -> None:
        """Record that the cell cannot work."""
        self.facts |= {"status": "refused", "error": sentence}

    def finish(self, run: Path, result: Mapping[str, Any], found: bool) -> None:
        """Record the run folder (relative, so that a store can be moved), and whether an existing run was reused."""
        value = picked(result["student"]["training"])
        teaching = 0.0 if found else result["seconds"].get("teacher", 0.0)
        run_folder = os.path.relpath(run, self.path.parents[1])
        self.facts |= {"run": run_folder, "found": found, "value": value, "teaching": teaching}


@contextmanager
def job_entry(folder: Path, overrides: Sequence[str]) -> Iterator[JobEntry]:
    """Keep a cell's entry up to date: running, then found, done, refused, or failed with its error."""
    entry = JobEntry(folder, overrides)
    entry.write("running")
    try:
        yield entry
    except BaseException as error:
        entry.facts["error"] = error_line(error)
        entry.facts["traceback"] = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):  # on a full disk the error to raise is still the cell's own
            entry.write("failed" if isinstance(error, Exception) else "lost")  # Ctrl-C is no failure of the cell
        raise
    entry.write(entry.facts.get("status") or ("found" if entry.facts["found"] else "done"))


def is_recorded(folder: Path, overrides: Sequence[str], error: Exception) -> bool:
    """Whether a cell's entry records this failure; on a full disk the job may have been unable to write it."""
    try:
        entry = json.loads(cell_path(folder, overrides).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return entry["status"] == "failed" and entry["error"] == error_line(error)


def error_line(error: BaseException) -> str:
    """Return an error's type and message in one line; of Hydra's wrapper those of its cause."""
    cause = error.__cause__ if type(error).__name__ == "InstantiationException" and error.__cause__ else error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the content of ``sweep.json``, which ``begin_sweep`` wrote.

    Raises:
        FileNotFoundError: the folder is not that of a sweep; the message says how to get one.
        ValueError: sweep.json is damaged.
    """
    if not os.path.isfile(folder / "sweep.json"):  # Path.is_file raises where a name is too long
        raise FileNotFoundError(f"{folder} is not a sweep: sweep.json is missing. `python -m kd.run -m …` writes it.")
    plan = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    if not isinstance(plan, dict):
        raise ValueError(f"{folder / 'sweep.json'} is damaged: it does not hold what `python -m kd.run -m …` writes")
    return plan


def read_sweep(folder: Path, results: bool = True) -> Sweep:
    """Read a sweep, finished or not.

    Args:
        results: whether to read the result of every finished cell; without, a ledger of thousands takes no time.

    Raises:
        FileNotFoundError: see ``read_plan``.
    """
    folder = Path(folder)
    plan = read_plan(folder)
    known = {}
    for path in sorted((folder / "cells").glob("*.json")):
        with contextlib.suppress(*DAMAGE):  # a cell with a damaged entry counts as waiting
            cell = _read_cell(path, results)
            known[cell.overrides] = cell
    refused = tuple((tuple(overrides), sentence) for overrides, sentence in plan.get("refused", ()))
    if plan["cells"] is None:  # a search: cells in the order in which they began
        cells = sorted(known.values(), key=lambda cell: cell.began or 0)
    else:
        cells = [known.get(tuple(overrides), Cell(tuple(overrides))) for overrides in plan["cells"]]
        cells = [_or_refused(cell, refused) for cell in cells]
    fixed, swept = tuple(plan["fixed"]), tuple(plan["swept"])
    return Sweep(folder, plan["command"], fixed, swept, plan["trials"], tuple(cells), refused)


def why_refused(overrides: Sequence[str], refused: Sequence[tuple[Sequence[str], str]]) -> str:
    """Return why a cell cannot work; "" if it was not refused at the start.

    Args:
        overrides: of the cell. refused: of ``Sweep.refused``, or of ``sweep.json``.
    """
    return next((sentence for wanted, sentence in refused if {*wanted} <= {*overrides}), "")


def _or_refused(cell: Cell, refused: Sequence[tuple[Sequence[str], str]]) -> Cell:
    """Return a cell, refused if it was refused at the start and has no result of an earlier command."""
    sentence = "" if cell.status in FINISHED else why_refused(cell.overrides, refused)
    return Cell(cell.overrides, "refused", error=sentence) if sentence else cell


def _read_cell(path: Path, results: bool) -> Cell:
    facts = json.loads(path.read_text(encoding="utf-8"))
    status, run, result = facts["status"], None, None
    if facts["run"]:
        run = Path(os.path.normpath(path.parents[1] / facts["run"]))
    if status == "running" and facts["host"] == platform.node() and not _alive(facts["pid"]):
        status = "lost"
    if status in ("running", "lost") and run and (run / "result.json").is_file():
        status = "found"  # its process was about to reuse this result
    if status in FINISHED and not (run and (run / "result.json").is_file()):  # you removed the run
        status, run = "waiting", None
    if status in FINISHED and results:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))  # damaged: so is the entry
        for role in ("teacher", "student", "baseline"):  # with a hundred classes these would fill the memory
            (result[role] or {}).pop("per_class", None)
    return Cell(
        overrides=tuple(facts["overrides"]),
        status=status,
        run=run,
        error=facts["error"],
        began=facts["began"],
        seconds=facts["seconds"],
        value=facts["value"],
        teaching=facts["teaching"],
        result=result,
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, of another user
        return True
    return True
