"""Format numbers and tables as text: percent, significant digits, mean and deviation, markdown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from kd.data.files import printable
from kd.records.run_folder import Rows


def is_finite(value: Any) -> bool:
    """Whether this is a finite number; None is not."""
    return value is not None and math.isfinite(value)


def percent(value: float | None) -> str:
    """``0.8512`` -> "85.12"."""
    return f"{100 * value:.2f}" if is_finite(value) else "–"


def significant(value: float | None, digits: int = 3) -> str:
    """Format with three significant digits, never in powers of ten: 0.0412, 4.12, 41.2, 412, 41,200."""
    if not is_finite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def millions(count: float | None) -> str:
    """``12_310_000`` -> "12.31"; below a million with three significant digits."""
    if not is_finite(count):
        return "–"
    return f"{count / 1e6:,.2f}" if count >= 1e6 else significant(count / 1e6)


def batch_label(batch: str) -> str:
    """``batch_64`` -> "batch 64"."""
    return batch.replace("_", " ")


def spread(values: Sequence[float]) -> str:
    """Format as mean ± standard deviation (n), the way papers write it."""
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else math.nan
    return f"{mean:.2f} ± {deviation:.2f} ({len(values)})".replace("-", "−")


def standard_error(accuracy: float, count: int) -> float:
    """Return the binomial standard error of an accuracy in [0, 1] that ``count`` images gave."""
    return math.sqrt(accuracy * (1 - accuracy) / count) if count else math.nan


def escape(value: Any) -> str:
    """Escape text for a markdown cell: one line, and no character has a meaning for markdown or a terminal."""
    text = " ".join(str(value).split())
    text = "".join(
        each if unicodedata.category(each) == "Co" else printable(each) for each in text
    )  # Co: marks of bold
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text


def markdown_table(rows: Rows, left: Sequence[str] = ()) -> str:
    """Return ``rows`` as a markdown table. Columns named in ``left`` are aligned left, the others right."""
    columns = list(rows[0])
    lines = [columns, [":--" if column in left else "--:" for column in columns]]
    lines += [[_cell(column, row[column]) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if column == "MCC" else f"{value:.2f}"
    return escape(value)
