"""Names of settings and groups, and the format of gains, p values and counts, for all parts of a sweep's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.report.text import is_finite, significant
from kd.runtime.values import format_value

SYMBOLS = {"kd.temperature": "T", "kd.alpha": "α", "teacher.seed": "teacher seed", "data.seed": "data seed"}


def short(setting: str, among: Sequence[str] = ()) -> str:
    """``student.width`` -> "width", unless another swept setting would get the same name; T and α have symbols."""

    def last(name: str) -> str:
        return SYMBOLS.get(name, name.rpartition(".")[2])

    return setting if sum(last(other) == last(setting) for other in among) > 1 else last(setting)


def group_name(values: Mapping[str, Any]) -> str:
    """``T = 4, α = 0.9``; for a sweep over seeds alone "the only cell"."""
    parts = [f"{short(name, list(values))} = {format_value(value)}" for name, value in values.items()]
    return ", ".join(parts) or "the only cell"


def order(value: Any) -> tuple[int, float, str]:
    """Return a sort key for values of any kind: null, then numbers by size, then the rest by its text."""
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))


def signed(value: float, scale: float = 100, form: str = ".2f") -> str:
    """``+1.23`` with a real minus sign, so that columns of numbers line up."""
    return format(scale * value, f"+{form}").replace("-", "−") if is_finite(value) else "–"


def chance(p: float | None) -> str:
    """``p = 0.0123``."""
    if not is_finite(p):
        return "p unknown"
    return "p < 0.0001" if p < 1e-4 else f"p = {significant(p)}"


def many(count: int, noun: str) -> str:
    """``1 cell``, ``1,234 cells``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
