"""What a search is told of a run: numbers of result.json, none of which the test split has had a say in.

``optimized_metric=student.training.best_val_accuracy`` is one such number; a list of several is a search for trade-offs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# known where train.pick_by says so
PICKED = re.compile(r"student\.training\.(?:best|last)_val_(balanced_accuracy|macro_f1)")
BETTER = {  # numbers of the student
    "student.training.best_val_accuracy": "maximize",
    "student.training.last_val_accuracy": "maximize",
    "student.training.best_val_balanced_accuracy": "maximize",
    "student.training.last_val_balanced_accuracy": "maximize",
    "student.training.best_val_macro_f1": "maximize",
    "student.training.last_val_macro_f1": "maximize",
    "student.throughput": "maximize",
    "student.latency_ms.batch_*.p50": "minimize",
    "student.latency_ms.batch_*.p95": "minimize",
    "student.one_thread.latency_ms.batch_*.p50": "minimize",
    "student.one_thread.throughput": "maximize",
    "student.macs": "minimize",
    "student.params": "minimize",
    "student.size_mb": "minimize",
}


def directions(objective: str | Sequence[str]) -> str | list[str]:
    """Return whether each number is to grow or to shrink: ``maximize`` or ``minimize``.

    Raises:
        ValueError: for what the test split decides, and for what is no number of a student.
    """
    if not isinstance(objective, str):
        return [str(directions(name)) for name in objective]
    found = BETTER.get(re.sub(r"\.batch_[1-9]\d*\.", ".batch_*.", objective))
    if found is None:
        right = ", ".join(BETTER).replace("*", "1")
        raise ValueError(
            f"optimized_metric={objective} cannot guide a search, for the test split never picks; take {right}"
        )
    return found


def metric_values(result: Mapping[str, Any], objective: str | Sequence[str]) -> float | tuple[float, ...]:
    """Return the number, or the numbers, that ``objective`` names.

    Raises:
        KeyError: when the result has no such number.
    """
    if not isinstance(objective, str):
        return tuple(float(metric_values(result, name)) for name in objective)  # type: ignore[arg-type]
    found: Any = result
    for part in objective.split("."):
        if part not in found:
            raise KeyError(f"optimized_metric={objective}: there is {', '.join(found)}, but no {part}")
        found = found[part]
    return float(found)


def needs_latency(objective: str | Sequence[str]) -> list[str]:
    """Those of the numbers that a busy machine falsifies."""
    names = [objective] if isinstance(objective, str) else objective
    return [name for name in names if "latency_ms" in name or "throughput" in name]
