"""What the command prints at its end: one line for each file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd.export.report import SHIPS
from kd.report.text import percent, significant

COLUMNS = ("file", "KB", "accuracy %", "agreement %", "batch 1 ms", "batch 64 ms", "ships")


def summary(report: Mapping[str, Any]) -> str:
    """Return a table of the torch student and of each file, and the reasons of those that may not ship."""
    rows = [("torch student", report["torch"], ""), ("folded student", report["folded"], "")]
    rows += [(file["file"], file, SHIPS[file["ships"]]) for file in report["files"]]
    cells = [COLUMNS, *(_cells(*row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(_padded(row, widths)).rstrip() for row in cells]
    lines.insert(1, "─" * len(lines[0]))
    if any("*" in line for line in lines):
        lines.append("* Other processes used the machine during this measurement, so it is not valid.")
    lines += [f"{file['file']}: {file['reason']}." for file in report["files"] if not file["ships"]]
    return "\n".join([*lines, *(f"{note}." for note in report["notes"])])


def _cells(name: str, row: Mapping[str, Any], ships: str) -> tuple[str, ...]:
    size = significant(row["size_bytes"] / 1024)
    times = [_time(row, batch) for batch in ("batch_1", "batch_64")]
    return name, size, percent(row["accuracy"]), percent(row["agreement"]), *times, ships


def _time(row: Mapping[str, Any], batch: str) -> str:
    if not row["latency_ms"]:
        return "–"
    found = row["latency_ms"]["all_threads"][batch]
    return significant(found["p50"]) + "*" * (not found["calm"])


def _padded(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = (
        cell.ljust(width) if not at else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return [first, *others]
