"""From trained networks to the files of a run: predictions, pictures, attention maps, ``result.json``, the student."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from kd.attention.maps import gate_maps
from kd.data.loader import Loader
from kd.data.pictures import Pictures
from kd.evaluate import accuracy, agreement, mcnemar, summary
from kd.machine import Machine
from kd.measure import params
from kd.models.ensemble import Ensemble
from kd.progress import say
from kd.report import choose_attended, choose_pictures, write_report
from kd.stages import Trained
from kd.store import SHORT, damage, write_text

# what a run is found again by; pictures that nobody draws again are not among them
KEPT = ("config.yaml", "metrics.jsonl", "predictions.npz", "result.json", "student.safetensors")
UNFINISHED = ".unfinished"  # in the folder of a run that is being made, or whose process was killed


def write_files(
    folder: Path,
    trained: Mapping[str, Trained],
    pictures: Pictures,
    machine: Machine,
    *,
    seed: int,
    cost: Callable[[str, nn.Module], dict[str, Any]],
) -> dict[str, Any]:
    """Write the predictions, the pictures and attention maps that the report shows and the student.

    Args:
        trained: under "teacher", "student" and, where there are any, "baseline" and "assistant_1" and so on.
        seed: draws the pictures.
        cost: what a network costs, by the name it has in ``trained``: see ``kd.measure.costs``.

    Returns:
        What ``result.json`` says under "teacher", "student", "baseline", "assistants" (from the teacher's end), "data",
        "machine" and "comparison".
    """
    assistants = [named for named in trained.items() if named[0].startswith("assistant")]
    trained = {role: network for role, network in trained.items() if not role.startswith("assistant")}
    targets = pictures.targets[pictures.test]
    logits = {role: network.test_logits for role, network in trained.items()}
    np.savez_compressed(folder / "predictions.npz", index=pictures.test, target=targets, **logits)
    rows = choose_attended(targets, logits["teacher"], seed)
    attended = write_attention(folder, trained["teacher"].network, pictures, rows, machine)
    rows = choose_pictures(targets, logits, seed, attended)
    np.savez_compressed(folder / "pictures.npz", row=rows, image=pictures.images[pictures.test[rows]])
    shutil.copyfile(trained["student"].folder / "network.safetensors", folder / "student.safetensors")
    merits: dict[str, Any] = {
        role: {
            **summary(network.test_logits, targets, pictures.classes),
            **cost(role, network.network),
            "training": network.about,
        }
        for role, network in trained.items()
    }
    merits.setdefault("baseline", None)
    return {
        **merits,
        "assistants": [
            {
                "name": role,
                "accuracy": accuracy(network.test_logits, targets),
                "params": params(network.network),
                "training": network.about,
            }
            for role, network in assistants
        ],
        "comparison": compare(merits, logits, targets),
        "machine": machine.describe(),
        "data": {
            "name": pictures.name,
            "classes": list(pictures.classes),
            "image_size": pictures.image_size,
            **{split: len(getattr(pictures, split)) for split in ("train", "val", "test")},
            "content": {split: content_of(pictures, getattr(pictures, split)) for split in ("val", "test")},
            "notes": dict(pictures.notes),
        },
    }


def content_of(pictures: Pictures, positions: np.ndarray) -> str:
    """Name images by their pixels, labels and order: who has the same name was shown the same, wherever it lies."""
    content = hashlib.sha256(f"{pictures.images.shape[1:]} {len(positions)}".encode())
    for start in range(0, len(positions), 256):  # of a memory map: all at once might not fit
        content.update(pictures.images[positions[start : start + 256]])
    content.update(pictures.targets[positions])
    return content.hexdigest()[: 2 * SHORT]


def write_attention(folder: Path, network: nn.Module, pictures: Pictures, rows: np.ndarray, machine: Machine) -> bool:
    """Write ``attention.npz`` if ``network`` is a single one with spatial gates; return whether it is.

    Args:
        rows: [M], of the test split. They are written too, and under the name of each gate its maps: [M, h, w].
    """
    path = folder / "attention.npz"
    image = as_tested(pictures, pictures.test[rows], machine)
    maps = {} if isinstance(network, Ensemble) else gate_maps(network, image)
    if maps:
        np.savez_compressed(path, row=rows, **{name: gate.cpu().numpy() for name, gate in maps.items()})
    else:
        path.unlink(missing_ok=True)  # another teacher's, in a folder that is used again
    return bool(maps)


def as_tested(pictures: Pictures, positions: np.ndarray, machine: Machine) -> Tensor:
    """A few images as every network is tested on them: [B, 3, H, W] in [0, 1]."""
    few = replace(pictures, images=pictures.images[positions], targets=pictures.targets[positions])
    loader = Loader(few, 2, 0, machine.device)  # of these alone: on an accelerator it would hold all that it is given
    return next(loader.plain(np.arange(len(positions)), len(positions))).image


def compare(merits: Mapping[str, Any], logits: Mapping[str, np.ndarray], targets: np.ndarray) -> dict[str, Any]:
    """The ratios and differences of ``result.json``; what needs a twin is None without one."""
    teacher, student, twin = (merits[role] for role in ("teacher", "student", "baseline"))
    gain = room = None
    if twin:
        gain, room = student["accuracy"] - twin["accuracy"], teacher["accuracy"] - twin["accuracy"]
    return {
        "accuracy_difference": student["accuracy"] - teacher["accuracy"],
        **_speed_ups(teacher, student),
        "size_ratio": teacher["size_mb"] / student["size_mb"],
        "params_ratio": teacher["params"] / student["params"],
        "params_reduction": 1 - student["params"] / teacher["params"],
        "macs_ratio": teacher["macs"] / student["macs"],
        "agreement": agreement(logits["student"], logits["teacher"]),
        "baseline_agreement": agreement(logits["baseline"], logits["teacher"]) if twin else None,
        "accuracy_gain": gain,
        "gain_recovered": gain / room if room else None,
        "mcnemar_p": mcnemar(logits["student"], logits["baseline"], targets) if twin else None,
    }


def with_costs(result: Mapping[str, Any], costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A result whose networks, by role, cost what was measured later."""
    merits = {role: {**result[role], **cost} for role, cost in costs.items()}
    compared = {**result["comparison"], **_speed_ups(merits["teacher"], merits["student"])}
    return {**result, **merits, "comparison": compared}


def _speed_ups(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, Any]:
    one_thread = student["one_thread"] and _speed_up(teacher["one_thread"], student["one_thread"])
    return {"speed_up": _speed_up(teacher, student), "speed_up_one_thread": one_thread}


def _speed_up(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, float]:
    """By batch: how many times as long the teacher takes at the median."""
    ours = student["latency_ms"]
    return {batch: teacher["latency_ms"][batch]["p50"] / ours[batch]["p50"] for batch in ours}


def finished(folder: Path, key: str, machine: Machine, drawn: bool) -> dict[str, Any] | None:
    """Return the result of a run that was made before, on this kind of device, or None.

    Args:
        drawn: draw its report where it is missing.
    """
    path = folder / "result.json"
    if not path.is_file() or (folder / UNFINISHED).exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["key"] != key or result["machine"]["device"] != machine.device.type:  # latencies are the device's
            return None
    except (ValueError, KeyError, TypeError):  # damaged: it is made again
        return None
    if wrong := damage(folder):
        say(f"{folder.name} is damaged ({wrong}): it is made again")
        return None
    if drawn and not (folder / "report.md").is_file():
        write_report(folder)
    return result


def refuse_another(folder: Path, key: str) -> None:
    """Refuse to write over the result of another run.

    Raises:
        ValueError: with what would be right.
    """
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        theirs, name = result["key"], result["name"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or none that says anything
        return
    if theirs != key:
        raise ValueError(f"hydra.run.dir={folder} holds another run, {name}: take another folder, or remove that run")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    write_text(folder / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
