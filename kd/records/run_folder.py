"""The folder of one run: begin it, finish it, recognise a finished one, and read its files."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd.runtime.console import print_line
from kd.store.files import MANIFEST, find_damage, write_manifest, write_text

# the files that make a run a finished one; figures and images are not among them, because they can be made again
MODELS = "models.json"  # by role, what each network is and where its weights lie: ``kd.inference.load`` reads it
RUN_FILES = ("config.yaml", "metrics.jsonl", MODELS, "predictions.npz", "result.json", "student.safetensors")
UNFINISHED = ".unfinished"  # marks the folder of a run that is in progress, or whose process was killed


def begin_run(folder: Path, config_yaml: str, about: Mapping[str, Any] | None = None) -> None:
    """Create the folder of a run, mark it as unfinished and write its config. The caller must hold the run's lock.

    Args:
        about: what the mark says of the run until there is a result: "key", "command", "choices".
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*RUN_FILES, "report.md", MANIFEST, UNFINISHED):
        for partial in folder.glob(f".{name}.*"):
            partial.unlink()
    write_text(folder / UNFINISHED, json.dumps(dict(about or {}), indent=1) + "\n")
    write_text(folder / "config.yaml", config_yaml)


def note_failure(folder: Path, error: str) -> None:
    """Add the error that ended a run to its mark, so that a reader of the folder learns why it is unfinished."""
    write_text(folder / UNFINISHED, json.dumps({**read_mark(folder), "error": error}, indent=1) + "\n")


def read_mark(folder: Path) -> dict[str, Any]:
    """Return what the mark of an unfinished run says: "key", "command", "choices", "error"; {} if it says nothing."""
    try:
        mark = json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of a version that wrote an empty mark
        return {}
    return mark if isinstance(mark, dict) else {}


def finish_run(folder: Path) -> None:
    """Write the manifest of a run whose files are complete, and mark it as finished."""
    write_manifest(folder, RUN_FILES)
    (folder / UNFINISHED).unlink(missing_ok=True)


def read_finished(folder: Path, key: str, device: str) -> dict[str, Any] | None:
    """Return the result of a finished run, or None if there is none with this key from this kind of device.

    Args:
        device: "cpu", "cuda", "mps": a result holds latencies, which belong to one kind of device.
    """
    path = folder / "result.json"
    if not path.is_file() or (folder / UNFINISHED).exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["key"] != key or result["machine"]["device"] != device:
            return None
    except (ValueError, KeyError, TypeError):  # damaged: the run is done again
        return None
    if wrong := find_damage(folder):
        print_line(f"{folder.name} is damaged ({wrong}); the run is done again")
        return None
    return result


def refuse_another(folder: Path, key: str) -> None:
    """Refuse to overwrite the result of another run.

    Raises:
        ValueError: the folder holds another run; the message says what to do.
    """
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        other_key, name = result["key"], result["name"]
    except (OSError, ValueError, KeyError, TypeError):  # no result, or an unreadable one
        return
    if other_key != key:
        raise ValueError(f"hydra.run.dir={folder} holds another run, {name}: choose another folder, or delete that run")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``result.json``, whole or not at all."""
    write_text(folder / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")


FILES = {  # that a report reads: what each is for, and what writes it
    "config.yaml": ("the settings of the run, which the report links to", "kd.run writes it before training"),
    "result.json": ("the numbers of every table", "kd.run writes it after the evaluation on the test split"),
    "metrics.jsonl": ("the training curves", "kd.run adds a line per epoch while it trains"),
    "predictions.npz": ("the logits on the test split", "kd.run writes it when it evaluates the models"),
    "images.npz": ("the images of the prediction grids", "kd.run writes it together with predictions.npz"),
}
OPTIONAL = {  # files that a report reads if they exist
    "attention.npz": ("the attention maps of the teacher", "kd.run writes it if the teacher has spatial gates"),
    "training_views.npz": ("the logits on training images", "kd.run writes it together with predictions.npz"),
}


class ReportError(ValueError):
    """The report cannot be made. The message says which file is wrong and what would be right."""


def read_part(folder: Path, name: str, load: Callable[[Path], Any]) -> Any:
    """Return ``load`` of one of FILES or OPTIONAL.

    Raises:
        ReportError: the file is missing or damaged.
    """
    path = folder / name
    purpose, origin = (FILES | OPTIONAL)[name]
    if not path.is_file():
        raise ReportError(f"{path} is missing. It holds {purpose}; {origin}.")
    try:
        return load(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReportError(f"{path} cannot be read ({error}). It holds {purpose}; {origin}.") from error


def load_json(path: Path) -> dict[str, Any]:
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict) or result.get("version") != 1:
        raise ValueError("it is not a result of version 1, the version that this report reads")
    return result


def load_lines(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from error
    return rows


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def check_predictions(folder: Path, result: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ReportError if the predictions do not belong to the result."""
    path, count, classes = folder / "predictions.npz", result["data"]["test"], len(result["data"]["classes"])
    for name in ("target", *roles_of(result)):
        shape = (count,) if name == "target" else (count, classes)
        if name not in arrays or arrays[name].shape != shape:
            actual = f"has shape {list(arrays[name].shape)}" if name in arrays else "is missing"
            raise ReportError(
                f'{path}: the array "{name}" {actual}, but result.json has {count} test images '
                f"and {classes} classes: {list(shape)} would be right."
            )
    for name in roles_of(result):
        accuracy = float((arrays[name].argmax(1) == arrays["target"]).mean())
        if abs(accuracy - result[name]["accuracy"]) > 1e-4:
            raise ReportError(
                f"{path} gives the {ROLE_LABELS[name]} an accuracy of {accuracy:.4f}, but result.json says "
                f"{result[name]['accuracy']:.4f}: the two files belong to different runs."
            )


def read_attention(folder: Path, result: Mapping[str, Any], samples: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the attention maps, {"row": [M], "stage 1": [M, h, w], ...}; {} if the run has none."""
    path, count = folder / "attention.npz", result["data"]["test"]
    if not path.exists():
        return {}
    arrays = read_part(folder, path.name, load_arrays)
    rows = arrays.get("row")
    if rows is None or rows.ndim != 1 or not np.isin(rows, np.intersect1d(samples["row"], np.arange(count))).all():
        raise ReportError(
            f'{path}: the array "row" must hold rows whose images are in images.npz. '
            "The two files belong to different runs."
        )
    for name, maps in arrays.items():
        if name != "row" and (maps.ndim != 3 or len(maps) != len(rows)):
            raise ReportError(
                f'{path}: the array "{name}" has shape {list(maps.shape)}; [{len(rows)}, h, w] would be right.'
            )
    return arrays


ROLE_LABELS = {"teacher": "teacher", "student": "student", "baseline": "baseline"}  # in the order of columns
PICKS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}  # train.pick_by
Rows = list[dict[str, Any]]


def roles_of(result: Mapping[str, Any]) -> list[str]:
    """Return the roles whose networks the result holds, in the order of columns."""
    return [key for key in ROLE_LABELS if result.get(key)]


def picked_by(training: Mapping[str, Any]) -> str:
    """Return the measure by which validation picked the epoch, a key of PICKS. ``training``: of a network's result."""
    return training.get("picked_by", "accuracy")


def picked(training: Mapping[str, Any]) -> float:
    """Return the best validation score by the measure that picked the epoch."""
    return training[f"best_val_{picked_by(training)}"]


def batch_sizes(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the timed batch sizes, smallest first: ["batch_1", "batch_64"]."""
    return sorted(result["student"]["latency_ms"], key=lambda name: int(name.split("_")[-1]))


def is_calm(cost: Mapping[str, Any], batch: str | None = None) -> bool:
    """Whether the latencies of a network in result.json can be trusted: those of one batch size, or all of them.

    Results of versions that did not check this are not trusted.
    """
    if batch:
        return bool(cost["latency_ms"][batch].get("calm"))
    parts = [cost, cost["one_thread"]] if cost.get("one_thread") else [cost]
    return all(is_calm(part, own) for part in parts for own in part["latency_ms"])
