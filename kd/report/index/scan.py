"""Read an outputs folder: every run with its state, facts and curves, every sweep. Nothing in it stops the reading."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from kd.config.keys import key_of
from kd.records.run_folder import UNFINISHED
from kd.report.index import facts
from kd.report.index.curves import curves_of, progress, read_rows
from kd.report.index.ledgers import read_sweeps
from kd.report.index.state import DAMAGED, FAILED, FINISHED, INTERRUPTED, REFUSED, UNDER_WAY, read_result, state_of
from kd.runtime.values import format_override
from kd.store.store import KEY_DIGITS, digest

FORMAT = 2  # of a row; a page of another format is read anew
READ = ("result.json", "metrics.jsonl", "config.yaml", UNFINISHED)  # the files that a row is made of
NOT_READABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, LookupError)  # by what is wrong inside
Row = dict[str, Any]


class Index(NamedTuple):
    """What the front page shows."""

    runs: list[Row]  # newest first; also jobs of sweeps that have no folder
    sweeps: list[Row]  # newest first


def scan(outputs: Path, before: Mapping[str, Row] | None = None) -> Index:
    """Read the runs and sweeps of an outputs folder.

    Args:
        before: rows of an earlier scan by id: a run whose files have not changed is not read again.
    """
    runs = [_row(folder, outputs, before or {}) for folder in run_folders(outputs)]
    sweeps = read_sweeps(outputs)
    for sweep in sweeps:
        runs += _join(sweep, runs)
    return Index(_newest_first(runs), _newest_first(sweeps))


def run_folders(outputs: Path) -> list[Path]:
    try:
        return sorted(path for path in (outputs / "runs").iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _newest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["when"] or 0.0, reverse=True)


def _row(folder: Path, outputs: Path, before: Mapping[str, Row]) -> Row:
    """Return the row of a run folder, whatever is in it."""
    stamp = _stamp(folder)
    try:
        state, message = state_of(folder, outputs)
    except NOT_READABLE as error:
        state, message = DAMAGED, str(error)
    old = before.get(folder.name, {})
    if old.get("stamp") == stamp and DAMAGED not in (state, old["state"]):
        content = {name: value for name, value in old.items() if name not in CHANGING}
    else:
        content, damage = _content(folder, state)
        if damage:
            state, message = DAMAGED, damage
    about = {"id": folder.name, "link": quote(f"runs/{folder.name}", errors="surrogateescape"), "stamp": stamp}
    about |= {"state": state, "message": message, "when": _when(folder), "sweeps": []}
    return {**content, **about, "report": (folder / "report.md").is_file()}


CHANGING = ("state", "message", "when", "sweeps", "report")  # parts of a row that are made at every scan


def _content(folder: Path, state: str) -> tuple[Row, str]:
    """Return what a run's files say, and what is wrong with them."""
    rows = read_rows(folder / "metrics.jsonl")
    damage, found = "", None
    if state in (FINISHED, DAMAGED):
        try:
            found = facts.of_result(read_result(folder))
        except FileNotFoundError:
            damage = "result.json is missing"
        except NOT_READABLE as error:
            damage = f"result.json cannot be read ({type(error).__name__}: {error})"
    found = found or facts.of_unfinished(folder)
    if state not in (FINISHED, DAMAGED):
        found["progress"] = progress(rows, found["settings"])
    try:
        curves = curves_of(rows)
    except NOT_READABLE:
        curves = {}
    return {**found, "curves": curves}, damage


def _stamp(folder: Path) -> str:
    """Return a digest of when the files of a row were written."""
    found = {}
    for name in READ:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found[name] = [status.st_mtime_ns, status.st_size]
    return digest({"format": FORMAT, **found})[:KEY_DIGITS]


def _when(folder: Path) -> float | None:
    """Return when a run last trained, in seconds since 1970: its report may be made again much later."""
    for name in ("metrics.jsonl", "result.json", UNFINISHED, "."):
        try:
            return round((folder / name).stat().st_mtime, 1)
        except OSError:
            continue
    return None


# --- sweeps --------------------------------------------------------------------------------------------------------


def _join(sweep: Row, runs: Iterable[Row]) -> list[Row]:
    """Name the sweep in the rows of its runs; return rows for its jobs that have no folder."""
    by_id = {run["id"]: run for run in runs}
    by_command = {_same(run["command"]): run for run in runs if run["state"] != FINISHED and run.get("command")}
    members, others = [], []
    for number, cell in enumerate(sweep.pop("cells"), 1):
        run = by_id.get(cell["run"]) or by_command.get(_same(cell["command"]))
        if run is None:
            others.append((number, cell))
            continue
        members.append(run)
        if sweep["name"] not in run["sweeps"]:
            run["sweeps"].append(sweep["name"])
        if run["state"] == INTERRUPTED and cell["status"] in ("failed", "refused"):
            run |= {"state": JOBS[cell["status"]], "message": cell["error"]}
    shared = {}
    for role in facts.ROLES:
        values = {run.get(role) for run in members}
        if len(values) == 1 and None not in values:
            (shared[role],) = values
    return [_job(sweep, number, cell, shared) for number, cell in others if cell["status"] in JOBS]


JOBS = {
    "failed": FAILED,
    "refused": REFUSED,
    "lost": INTERRUPTED,
    "running": UNDER_WAY,
}  # status of a cell -> state of its row


def _job(sweep: Row, number: int, cell: Row, shared: Mapping[str, Any]) -> Row:
    about = {"id": f"{sweep['name']}/{number}", "link": "", "stamp": "", "curves": {}, "report": False}
    about |= {"state": JOBS[cell["status"]], "message": cell["error"], "when": cell["began"]}
    return {**facts.of_command(cell["command"], shared), **about, "sweeps": [sweep["name"]]}


def _same(command: str) -> tuple[str, ...]:
    """Return what two commands have in common that make the same run."""
    try:
        words = [format_override(word) for word in shlex.split(command) if "=" in word]
    except ValueError:
        return (command,)
    return tuple(sorted(word for word in words if key_of(word).split(".")[0] not in facts.ASIDE))
