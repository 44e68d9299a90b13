"""The sweeps of an outputs folder for the front page, and their jobs that have no run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kd.records.ledger import DAMAGE, FINISHED, Cell, Sweep, read_sweep
from kd.report.sweep.aggregate import cell_rows
from kd.runtime.values import format_override

STATUSES = ("done", "found", "running", "failed", "refused", "lost", "waiting")


def read_sweeps(outputs: Path) -> list[dict[str, Any]]:
    """Return what the page shows of every sweep, with its cells; a damaged one has a "message" and no cells."""
    folders = sorted(path for path in _folders(outputs / "sweeps") if (path / "sweep.json").exists())
    return [_read(folder, outputs) for folder in folders]


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []


def _read(folder: Path, outputs: Path) -> dict[str, Any]:
    about = {"name": folder.name, "link": quote(f"sweeps/{folder.name}", errors="surrogateescape")}
    about["report"] = (folder / "report.html").is_file()
    about["when"] = _changed(folder)
    try:
        sweep, planned = read_sweep(folder, results=False), (folder / "sweep.json").stat().st_mtime
        cells = [_cell(cell, row, planned) for cell, row in zip(sweep.cells, cell_rows(sweep), strict=True)]
    except DAMAGE as error:
        return {**about, "state": "damaged", "message": f"sweep.json cannot be read: {error}", "cells": []}
    counts = {status: sweep.count(status) for status in STATUSES}
    counts["waiting"] += sweep.total - len(sweep.cells)
    about |= {"command": sweep.command, "swept": list(sweep.swept), "total": sweep.total, "counts": counts}
    return {**about, "state": _state(sweep), "cells": cells}


def _cell(cell: Cell, row: Mapping[str, Any], planned: float) -> dict[str, Any]:
    """Return what the page shows of a cell. ``planned``: when the sweep began, and refused what cannot work."""
    return {
        "status": cell.status,
        "run": cell.run.name if cell.run else None,
        "error": cell.error or "",
        "began": cell.began or (planned if cell.status == "refused" else None),
        "overrides": " ".join(map(format_override, cell.overrides)),
        "command": row["command"],
    }


def _state(sweep: Sweep) -> str:
    if sweep.count("running"):
        return "under way"
    if sweep.count(*FINISHED, "refused") == sweep.total:
        return "finished"
    return "failed" if sweep.count("failed") else "interrupted"


def _changed(folder: Path) -> float | None:
    """Return when a job of the sweep last began or ended, in seconds since 1970."""
    try:
        paths = [folder / "sweep.json", *(folder / "cells").glob("*.json")]
        return max(path.stat().st_mtime for path in paths)
    except OSError:
        return None
