"""``cells.csv`` of a sweep, and the rows of its groups for W&B."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kd.report.sweep.aggregate import Group
from kd.report.sweep.test_sets import data_sets
from kd.runtime.values import number_or_text


def group_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return one row per group, plain values: swept settings, mean and deviation of each measure, gain and its test."""
    title = {group.runs: each.title for each in data_sets(groups) for group in each.whole if each.title}
    rows = []
    for group in groups:
        row = {"data set": title[group.runs]} if title else {}
        row |= {name: number_or_text(value) for name, value in group.values.items()}
        for name, over in group.metrics.items():
            row |= {name: over.mean, f"{name} std": over.std}
        row["seeds"] = len(group.cells)
        if group.gain:
            row |= {"gain low": group.gain.low, "gain high": group.gain.high, "p": group.gain.p}
            row |= {"p Holm": group.gain.p_holm, "significant": group.gain.significant}
        rows.append(row)
    return rows


def cells_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return ``kd.report.sweep.aggregate.cell_rows`` as CSV: a header, then a line per cell; "" for no rows.

    Unknown values are empty. Numbers have all digits and no unit; an error is on one line.
    """
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return text.getvalue()


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return " ".join(value.split()) if isinstance(value, str) else value
