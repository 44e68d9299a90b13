"""Read from the folder of a run what the diagnosis needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd.records.run_folder import (
    ReportError,
    Rows,
    check_predictions,
    load_arrays,
    load_json,
    load_lines,
    read_part,
    roles_of,
)

VIEWS = "training_views.npz"


class Evidence(NamedTuple):
    """What a run has: arrays by role, and what its files say."""

    result: dict[str, Any]  # result.json
    metrics: Rows  # metrics.jsonl
    test: dict[str, np.ndarray]  # predictions.npz: "target" [N], logits [N, K] by role
    views: dict[str, np.ndarray] | None  # training_views.npz: "target" [n], logits [n, K]; None in an older run


def read_evidence(folder: Path) -> Evidence:
    """Read a run.

    Raises:
        ReportError: the folder is not one of a run, or a file is missing, damaged or of another run.
    """
    if not os.path.isdir(folder):  # Path.is_dir raises where a name is too long
        raise ReportError(f"{folder} is not a folder. Give the folder of a run, the one that holds result.json.")
    result = read_part(folder, "result.json", load_json)
    test = read_part(folder, "predictions.npz", load_arrays)
    check_predictions(folder, result, test)
    return Evidence(result, read_part(folder, "metrics.jsonl", load_lines), test, read_views(folder, result))


def read_views(folder: Path, result: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Return ``training_views.npz`` without images that have no label; None if the run has none.

    Raises:
        ReportError: the file is damaged, or belongs to another run.
    """
    path, classes = folder / VIEWS, len(result["data"]["classes"])
    if not path.exists():
        return None
    arrays = read_part(folder, VIEWS, load_arrays)
    roles, count = roles_of(result), arrays["target"].shape[0] if "target" in arrays else 0
    for role in roles:
        if role not in arrays or arrays[role].shape != (count, classes):
            actual = f"has shape {list(arrays[role].shape)}" if role in arrays else "is missing"
            raise ReportError(f'{path}: the array "{role}" {actual}; [{count}, {classes}] would be right.')
    labelled = arrays["target"] >= 0
    return {name: arrays[name][labelled] for name in ("target", *roles)} if labelled.any() else None
