"""The metrics that a search may optimise: numbers of result.json that do not depend on the test split.

``optimized_metric=student.training.best_val_accuracy`` names one; a list of several searches for trade-offs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# exist only with this train.pick_by
PICKED = re.compile(r"student\.training\.(?:best|last)_val_(balanced_accuracy|macro_f1)")
DIRECTIONS = {  # numbers of the student
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


def directions(optimized_metric: str | Sequence[str]) -> str | list[str]:
    """Return the direction of each metric: ``maximize`` or ``minimize``.

    Raises:
        ValueError: a metric depends on the test split, or is not a number of the student.
    """
    if not isinstance(optimized_metric, str):
        return [str(directions(name)) for name in optimized_metric]
    direction = DIRECTIONS.get(re.sub(r"\.batch_[1-9]\d*\.", ".batch_*.", optimized_metric))
    if direction is None:
        right = ", ".join(DIRECTIONS).replace("*", "1")
        raise ValueError(
            f"optimized_metric={optimized_metric} cannot be optimised: the test split never picks; use one of {right}"
        )
    return direction


def metric_values(result: Mapping[str, Any], optimized_metric: str | Sequence[str]) -> float | tuple[float, ...]:
    """Return the number or numbers of a result that ``optimized_metric`` names.

    Raises:
        KeyError: the result has no such number.
    """
    if not isinstance(optimized_metric, str):
        return tuple(float(metric_values(result, name)) for name in optimized_metric)  # type: ignore[arg-type]
    value: Any = result
    for part in optimized_metric.split("."):
        if part not in value:
            raise KeyError(f"optimized_metric={optimized_metric}: the result has {', '.join(value)}, but no {part}")
        value = value[part]
    return float(value)


def needs_latency(optimized_metric: str | Sequence[str]) -> list[str]:
    """Return the metrics that a busy machine distorts."""
    names = [optimized_metric] if isinstance(optimized_metric, str) else optimized_metric
    return [name for name in names if "latency_ms" in name or "throughput" in name]
