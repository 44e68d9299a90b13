"""A run is named by what it computes: from resolved settings to keys and names. Pure functions of plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.store import SHORT, digest

VERSION = 2  # stands in every key: raise it with a change of the code that changes numbers
NUMERICS = ("batch_size", "precision", "channels_last", "compile")  # of `train`: they change bits, or more

Settings = dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """What determines each thing that a run makes, as settings; ``digest`` of them is its key.

    A teacher's knows no student, a twin's no teacher, no temperature and no alpha, a bank's no objective. A term of
    weight 0 is in no key: at alpha = 0 every temperature is the twin. No path, device or time is in any.
    """

    teacher: Settings
    twin: Settings
    student: Settings
    bank: Settings
    run: Settings


def keys_of(settings: Mapping[str, Any], fingerprint: str, asks_teacher: bool) -> Keys:
    """Return the keys of a run.

    Args:
        settings: the resolved config, plain values, with the precision that was found for "auto".
        fingerprint: of the data, by content.
        asks_teacher: whether a term of the student's objective reads the teacher.
    """
    train, teacher = settings["train"], settings["teacher"]
    seen = {"version": VERSION, "data": fingerprint}
    views = {**seen, "augment": settings["data"]["augment"], **{name: train[name] for name in NUMERICS}}
    attention = {name: settings["attention"][name] for name in ("wrap", "stages")}
    network = {"network": teacher["network"], "attention": attention}
    if teacher["checkpoint"]:
        teacher_key = {**seen, **network, "checkpoint": content_of(Path(teacher["checkpoint"]).expanduser())}
    else:
        teacher_key = {**views, **network, "recipe": train["teacher"], "seed": teacher["seed"]}
    recipe = {name: value for name, value in train["student"].items() if name != "label_smoothing"}  # a term reads it
    student = {**views, "network": settings["student"], "recipe": recipe, "seed": settings["seed"]}
    twin = {**student, "objective": active(settings["twin"]), "teacher": None}
    distilled = {
        **student,
        "objective": active(settings["kd"]),
        "teacher": digest(teacher_key) if asks_teacher else None,
    }
    bank = {
        **views,
        "teacher": digest(teacher_key),
        "seed": settings["seed"],
        "epochs": train["student"]["epochs"],
    }
    run = {
        "teacher": teacher_key,
        "student": distilled,
        "baseline": twin if settings["baseline"] else None,
        "latency": settings["latency"],
    }
    return Keys(teacher_key, twin, distilled, bank, run)


def check(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that no constructor looks at.

    Raises:
        ValueError: with the setting, its value and what would be right.
    """
    for name, least in {"seed": 0, "teacher.seed": 0, "data.seed": 0, "latency.batch": 1, "latency.seconds": 0}.items():
        value = flat(settings).get(name, least)
        if value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")
    objective, batch = settings["objective"], settings["latency"]["batch"]
    for name in [objective] if isinstance(objective, str) else objective:
        measured = next((part for part in name.split(".") if part.startswith("batch_")), f"batch_{batch}")
        if measured not in ("batch_1", f"batch_{batch}"):
            raise ValueError(f"objective={name}: latency is measured at batch_1 and batch_{batch} (latency.batch)")


def active(objective: Mapping[str, Any]) -> Settings:
    """The terms that count: weight and settings of each whose weight is not 0."""
    return {
        name: {"weight": weight, "term": objective["terms"][name]}
        for name, weight in objective["weights"].items()
        if weight != 0
    }


def readable(settings: Mapping[str, Any], choices: Mapping[str, str], key: str) -> str:
    """Name a run for people: data, teacher, student, method, the method's numbers, seed and the key's first digits."""

    def named(group: str) -> str:
        network = settings[group].get("name") or ""  # of timm's
        return choices[group] if network in choices[group] else f"{choices[group]}_{network}"

    kd = [f"{name}{value:g}" for name, value in settings["kd"].items() if isinstance(value, int | float)]
    width = settings["student"].get("width", 1)
    student = named("student") + (f"_w{width:g}" if width != 1 else "")
    parts = [choices["data"], named("teacher"), student, choices["kd"], *kd, f"seed{settings['seed']}", key[:SHORT]]
    return "-".join(parts)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings under dotted names: ``{"kd.temperature": 4.0}``."""
    result: Settings = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def content_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        FileNotFoundError: with what would be right.
    """
    if not path.is_file():
        raise FileNotFoundError(f"teacher.checkpoint={path}: there is no such file")
    return hashlib.sha256(path.read_bytes()).hexdigest()
