"""What a search is told of a run: numbers of result.json, none of which the test split has had a say in.

``objective=student.training.best_val_accuracy`` is one such number; a list of several is a search for trade-offs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BETTER = {  # of the student, by the name's first part
    "training": "maximize",  # accuracies on the validation split
    "throughput": "maximize",
    "latency_ms": "minimize",
    "macs": "minimize",
    "params": "minimize",
    "size_mb": "minimize",
}


def directions(objective: str | Sequence[str]) -> str | list[str]:
    """Return whether each number is to grow or to shrink: ``maximize`` or ``minimize``.

    Raises:
        ValueError: for what the test split decides, and for what is no number of a student.
    """
    if not isinstance(objective, str):
        return [str(directions(name)) for name in objective]
    role, _, rest = objective.partition(".")
    first = rest.partition(".")[0]
    right = "student.training.best_val_accuracy, student.latency_ms.batch_1.p50, student.macs, student.params"
    if role != "student" or first not in BETTER or (first == "training" and not rest.endswith("_val_accuracy")):
        raise ValueError(f"objective={objective} cannot guide a search, for the test split never picks; take {right}")
    return BETTER[first]


def values(result: Mapping[str, Any], objective: str | Sequence[str]) -> float | tuple[float, ...]:
    """Return the number, or the numbers, that ``objective`` names.

    Raises:
        KeyError: when the result has no such number.
    """
    if not isinstance(objective, str):
        return tuple(float(values(result, name)) for name in objective)  # type: ignore[arg-type]
    found: Any = result
    for part in objective.split("."):
        if part not in found:
            raise KeyError(f"objective={objective}: there is {', '.join(found)}, but no {part}")
        found = found[part]
    return float(found)
