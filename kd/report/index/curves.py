"""The epochs of a run for the front page, in few characters: a page holds the curves of a thousand runs.

The values of a curve are 16-bit numbers between its lowest and its highest, in base64: less than three characters each.
"""

from __future__ import annotations

import array
import base64
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.records.run_folder import ROLE_LABELS
from kd.report.index.facts import shortened
from kd.runtime.values import is_number

MEASURES = ("val_accuracy", "loss", "train_accuracy")
POINTS = 160  # of a curve; a longer one is thinned
GAP = 0xFFFF  # stands for a value that was not logged; the highest is one below


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``. What is no row is left out: its last line may still be written."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("epoch"), int) and isinstance(row.get("stage"), str):
            rows.append(row)
    return rows


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the curves of each role: ``{"student": {"epoch": 60, "val_accuracy": packed, "loss": packed}}``.

    ``epoch`` is a number where the epochs are 1, 2, … up to it, else a list; a packed curve see ``pack``. The student's
    may have ``gradients``: ``{"progress": […], "share": {term: […]}, "cosine": {term: […]}}``.
    """
    by_role: dict[str, dict[int, Mapping[str, Any]]] = {role: {} for role in ROLE_LABELS}
    for row in rows:
        if row["stage"] in by_role:
            by_role[row["stage"]][row["epoch"]] = row  # a run that resumed may have written an epoch twice
    return {role: _curve([found[epoch] for epoch in sorted(found)]) for role, found in by_role.items() if found}


def progress(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return how far a run is, as its last row says: ``student, epoch 3 of 60``; "" before the first epoch."""
    if not rows:
        return ""
    stage, epoch = rows[-1]["stage"], rows[-1]["epoch"]
    total = settings.get(f"train.{'teacher' if stage.startswith('teacher') else 'student'}.epochs")
    return f"{stage}, epoch {epoch}" + (f" of {total}" if is_number(total) and total >= epoch else "")


def pack(values: Sequence[float | None]) -> list[Any] | None:
    """Return ``[lowest, highest, text]``: the values as 16-bit little-endian numbers from 0 to GAP - 1, in base64.

    None if there is no value at all.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    scale = (GAP - 1) / (high - low) if high > low else 0.0
    numbers = array.array("H", [GAP if value is None else round(scale * (value - low)) for value in values])
    if sys.byteorder == "big":
        numbers.byteswap()
    return [shortened(low), shortened(high), base64.b64encode(numbers.tobytes()).decode()]


def _curve(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kept = _thinned(rows)
    epochs = [row["epoch"] for row in kept]
    curve: dict[str, Any] = {"epoch": len(epochs) if epochs == [*range(1, len(epochs) + 1)] else epochs}
    for name in MEASURES:
        if packed := pack([shortened(row.get(name)) for row in kept]):
            curve[name] = packed
    if shares := _gradients(rows):
        curve["gradients"] = shares
    return curve


def _thinned(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return at most POINTS rows, evenly spaced, with the first and the last."""
    if len(rows) <= POINTS:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (POINTS - 1))] for place in range(POINTS)]


def _gradients(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each term's share of the gradient, and its cosine with the labels' gradient, by progress."""
    measured = []
    for row in rows:
        found = row.get("gradients")
        measured += [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    measured = [each for each in measured if isinstance(each.get("terms"), dict)]
    terms = list(dict.fromkeys(term for each in measured for term in each["terms"]))

    def values(term: str, name: str) -> list[float | None]:
        found = [each["terms"].get(term) for each in measured]
        return [shortened(value.get(name)) if isinstance(value, dict) else None for value in found]

    if not terms:
        return {}
    by_name = {name: {term: values(term, name) for term in terms} for name in ("share", "cosine")}
    return {"progress": [shortened(each.get("progress")) for each in measured], **by_name}
