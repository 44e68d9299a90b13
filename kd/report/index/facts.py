"""The numbers and words of a run for the front page: plain values that JSON holds, None where there is none."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kd.config.keys import key_of
from kd.records.run_folder import batch_sizes, is_calm, read_mark
from kd.report.gain import gain_recovered
from kd.runtime.values import flatten, format_value, is_number

DIGITS = 6  # significant digits of a number on the page
# settings of no consequence for what is trained
ASIDE = ("outputs", "report", "sweep", "tracking", "hydra", "optimized_metric")
# these repeat settings of the method and of the teacher by interpolation
REPEATED = ("kd.terms.", "kd.weights.", "baseline_kd.terms.", "baseline_kd.weights.", "teacher.network.")
NAMED = ("timm",)  # options whose network the setting ``name`` gives
COLUMNS = ("data", "teacher", "student", "kd", "seed")  # overrides that the page shows in columns of their own


def of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a finished run.

    Raises:
        KeyError, TypeError: the result is damaged.
    """
    student, baseline, data = result["student"], result["baseline"] or {}, result["data"]
    comparison, seconds = result["comparison"], result.get("seconds") or {}
    teacher = result["teacher"]  # None where the method reads none
    small = batch_sizes(result)[0]
    one = student.get("one_thread") or {}
    numbers = {
        "accuracy": student["accuracy"],
        "baseline": baseline.get("accuracy"),
        "gain": comparison["accuracy_gain"],
        "teacher_accuracy": teacher["accuracy"] if teacher else None,
        "val_accuracy": student["training"]["best_val_accuracy"],
        "balanced_accuracy": student.get("balanced_accuracy"),
        "macro_f1": student["macro_f1"],
        "top5_accuracy": student.get("top5_accuracy"),
        "ece": student["ece"],
        "nll": student["nll"],
        "agreement": comparison["agreement"],
        "recovered": gain_recovered(result),
        "mcnemar_p": comparison["mcnemar_p"],
        "params": student["params"],
        "macs": student["macs"],
        "size": student["size_mb"],
        "latency": student["latency_ms"][small]["p50"],
        "latency_one_thread": one["latency_ms"][small]["p50"] if one else None,
        "throughput": student["throughput"],
        "minutes": seconds["total"] / 60 if is_number(seconds.get("total")) else None,
        "epochs": student["training"]["epochs"],
        "teacher_params": teacher["params"] if teacher else None,
        "teacher_latency": teacher["latency_ms"][small]["p50"] if teacher else None,
    }
    choices, settings = result["choices"], result.get("settings") or {}
    words = _names(choices, settings) | {"data": str(data["name"])}
    device = result["machine"]
    return {
        **words,
        **{name: shortened(value) for name, value in numbers.items()},
        "seed": result["seed"],
        "busy": not is_calm(student, small),
        "device": f"{device['device_name']}, {device['threads']} threads"
        if device["device"] == "cpu"
        else str(device["device_name"]),
        "images": [data["name"], (data.get("content") or {}).get("test"), data["image_size"], data["test"]],
        "command": str(result.get("command") or ""),
        "overrides": typed(str(result.get("command") or "")),
        "settings": _settings(settings),
    }


def of_unfinished(folder: Path) -> dict[str, Any]:
    """Return the facts of a run without a result: what its mark and its config say."""
    mark, settings = read_mark(folder), _config(folder)
    choices = mark.get("choices") if isinstance(mark.get("choices"), dict) else {}
    command = str(mark.get("command") or "")
    return {
        **_names(choices, settings),
        "seed": settings.get("seed"),
        "command": command,
        "overrides": typed(command),
        "settings": _settings(settings),
    }


def of_command(command: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a job that has no run folder. ``shared``: names that all runs of its sweep share."""
    chosen = dict(override.partition("=")[::2] for override in shlex.split(command) if "=" in override)
    names = {role: chosen.get(group) for role, group in ROLES.items() if chosen.get(group)}
    seed = chosen.get("seed", "")
    return {
        **shared,
        **names,
        "seed": int(seed) if seed.isdecimal() else None,
        "command": command,
        "overrides": typed(command),
        "settings": {},
    }


ROLES = {"data": "data", "teacher": "teacher", "student": "student", "method": "kd"}  # column -> config group


def _names(choices: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    names = {role: str(choices[group]) for role, group in ROLES.items() if choices.get(group)}
    for role in ("teacher", "student"):
        if names.get(role) in NAMED and settings.get(f"{role}.name"):
            names[role] = f"{names[role]} {settings[f'{role}.name']}"
    if names.get("method") == "combine":
        terms = dict.fromkeys(key.split(".")[2] for key in settings if key.startswith("kd.terms."))
        names["method"] = " + ".join(term for term in terms if term != "hard") or "combine"
    return names


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that may differ between two runs by the user's choice, as numbers or text."""
    kept = {}
    for key, value in settings.items():
        private = any(part.startswith("_") for part in key.split("."))
        if not private and key.split(".")[0] not in ASIDE and not key.startswith(REPEATED):
            kept[key] = shortened(value) if is_number(value) else format_value(value)
    return kept


def typed(command: str) -> list[str]:
    """Return the overrides of a run's command that no column of the page shows: ``["kd.temperature=4"]``."""
    try:
        words = [word for word in shlex.split(command) if "=" in word]
    except ValueError:  # cut short
        return []
    return [word for word in words if key_of(word).split(".")[0] not in ASIDE and key_of(word) not in COLUMNS]


def _config(folder: Path) -> dict[str, Any]:
    """Return the settings in ``config.yaml`` under dotted names; {} if it cannot be read."""
    try:
        tree = yaml.load(
            (folder / "config.yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(flatten(tree)) if isinstance(tree, dict) else {}


def shortened(value: float | None) -> float | int | None:
    """Return a number with DIGITS significant digits; None for what is no finite number."""
    if not is_number(value) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
