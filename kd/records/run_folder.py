"""The folder of one run: begun, finished, and found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.progress import say
from kd.store import SIZES, damage, seal, write_text

# the files by which a finished run is recognised; figures and images, which can be drawn again, are not among them
KEPT = ("config.yaml", "metrics.jsonl", "predictions.npz", "result.json", "student.safetensors")
UNFINISHED = ".unfinished"  # marks the folder of a run that is in progress, or whose process was killed


def begin_run(folder: Path, config_yaml: str) -> None:
    """Make the folder of a run, mark it as unfinished and write its config. The caller must hold the run's lock."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "result.json", "report.md", SIZES):
        for partial in folder.glob(f".{name}.*"):
            partial.unlink()
    (folder / UNFINISHED).touch()
    write_text(folder / "config.yaml", config_yaml)


def finish_run(folder: Path) -> None:
    """Write the manifest of a run whose files are complete, and mark it as finished."""
    seal(folder, KEPT)
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
    except (ValueError, KeyError, TypeError):  # damaged: the run is made again
        return None
    if wrong := damage(folder):
        say(f"{folder.name} is damaged ({wrong}): it is made again")
        return None
    return result


def refuse_another(folder: Path, key: str) -> None:
    """Refuse to overwrite the result of another run.

    Raises:
        ValueError: with what would be right.
    """
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        other_key, name = result["key"], result["name"]
    except (OSError, ValueError, KeyError, TypeError):  # no result, or an unreadable one
        return
    if other_key != key:
        raise ValueError(f"hydra.run.dir={folder} holds another run, {name}: take another folder, or remove that run")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``result.json``, whole or not at all."""
    write_text(folder / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
