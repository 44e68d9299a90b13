"""A run is named by what it computes: from resolved settings to keys and names. Pure functions of plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.store import SHORT, digest, shortened

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
    members: tuple[Settings, ...]  # of an ensemble; the teacher itself where there is one
    twin: Settings
    assistants: tuple[Settings, ...]  # each taught by the one before, the first by the teacher
    student: Settings  # taught by the last of them
    banks: tuple[Settings, ...]  # of who teaches each assistant and, last, the student
    run: Settings

    @property
    def bank(self) -> Settings:
        return self.banks[-1]


def keys_of(
    settings: Mapping[str, Any],
    fingerprint: str,
    asks_teacher: bool,
    members: Sequence[Mapping[str, Any]] = (),
    assistants: Sequence[Mapping[str, Any]] = (),
) -> Keys:
    """Return the keys of a run.

    Args:
        settings: the resolved config, plain values, with the precision that was found for "auto".
        fingerprint: of the data, by content.
        asks_teacher: whether a term of the student's objective reads the teacher.
        members: "network", "attention", "seed", "checkpoint" and "checkpoint_prefix" of every teacher of an ensemble.
        assistants: "network", "attention" and "seed" of those between teacher and student, in order.

    Raises:
        ValueError: two teachers of an ensemble that are one and the same.
    """
    train, teacher = settings["train"], settings["teacher"]
    seen = {"version": VERSION, "data": fingerprint}
    views = {**seen, "augment": settings["data"]["augment"], **{name: train[name] for name in NUMERICS}}
    if train["pieces"] > 1:  # batch norm, and what compares the images of a batch, see a piece
        views["pieces"] = train["pieces"]
    # settings that came later leave keys alone where they are off
    balance, pick_by = settings["data"].get("balance", "none"), train.get("pick_by", "accuracy")
    if balance == "sample":  # what is drawn is another; a weight of labels changes no view
        views["balance"] = balance
    learned = views | ({"balance": balance} if balance != "none" else {})
    learned |= {"pick_by": pick_by} if pick_by != "accuracy" else {}

    def teacher_key(spec: Mapping[str, Any]) -> Settings:
        if spec["checkpoint"]:
            part = {name: spec[name] for name in ["checkpoint_prefix"] if spec.get(name) is not None}
            return {**seen, **_drawn(spec), **part, "checkpoint": content_of(Path(spec["checkpoint"]).expanduser())}
        return {**learned, **_drawn(spec), "recipe": _told(train["teacher"]), "seed": spec["seed"]}

    if members:
        of_members = tuple(teacher_key(spec) for spec in members)
        if any(key in of_members[:number] for number, key in enumerate(of_members)):
            raise ValueError("teacher.ensemble names one and the same network twice: give each a seed of its own")
        whole = {"ensemble": list(of_members), "combine": teacher["combine"]}
    else:
        whole = teacher_key({**teacher, "attention": settings["attention"]})
        of_members = (whole,)
    recipe = _told(train["student"])
    del recipe["label_smoothing"]  # a term reads it
    student = {**learned, "network": settings["student"], "recipe": recipe, "seed": settings["seed"]}
    twin = {**student, "objective": active(settings["twin"]), "teacher": None}
    taught = {**student, "objective": active(settings["kd"])}
    guide, chain, banks = digest(whole), [], []
    for spec in [*assistants, None]:
        own = {} if spec is None else {**_drawn(spec), "seed": spec["seed"]}
        chain.append({**taught, **own, "teacher": guide if asks_teacher else None})
        seen_views = {name: recipe[name] for name in ("epochs", "mixup") if name in recipe}
        banks.append({**views, "teacher": guide, "seed": chain[-1]["seed"], **seen_views})
        guide = digest(chain[-1])
    run = {
        "teacher": whole,
        "student": chain[-1],
        "baseline": twin if settings["baseline"] else None,
        "latency": settings["latency"],
    }
    return Keys(whole, of_members, twin, tuple(chain[:-1]), chain[-1], tuple(banks), run)


def _drawn(spec: Mapping[str, Any]) -> Settings:
    """The architecture of a network: with its attention, and its own statistics of the input if it was given some."""
    attention = spec.get("attention")
    found: Settings = {"network": spec["network"]}
    if attention:
        found["attention"] = {name: attention[name] for name in ("wrap", "stages")}
    return found | {name: spec[name] for name in ("mean", "std") if spec.get(name) is not None}


def _told(recipe: Mapping[str, Any]) -> Settings:
    """A recipe without what it does not do: a setting that came later leaves keys alone where it is off."""
    return {name: value for name, value in recipe.items() if name != "mixup" or value}


def active(objective: Mapping[str, Any]) -> Settings:
    """The terms that count: weight, settings and schedule of each whose weight is not 0."""
    schedule = objective.get("schedule") or {}
    return {
        name: {"weight": weight, "term": objective["terms"][name]}
        | ({"schedule": schedule[name]} if name in schedule else {})
        for name, weight in objective["weights"].items()
        if weight != 0
    }


def readable(settings: Mapping[str, Any], choices: Mapping[str, str], key: str) -> str:
    """Name a run for people: data, teacher, student, method, the method's numbers, seed and the key's first digits."""

    def named(group: str) -> str:
        network = "" if settings[group].get("ensemble") else settings[group].get("name") or ""  # of timm's
        return choices[group] if network in choices[group] else f"{choices[group]}_{network}"

    attention = choices.get("attention", "none")
    looks = "" if attention == "none" or attention in choices["teacher"] else f"_{attention}"
    kd = [f"{name}{value:g}" for name, value in settings["kd"].items() if isinstance(value, int | float)]
    width = settings["student"].get("width", 1)
    student = named("student") + (f"_w{width:g}" if width != 1 else "")
    parts = [choices["data"], named("teacher") + looks, student, choices["kd"], *kd, f"seed{settings['seed']}"]
    return f"{shortened('-'.join(parts))}-{key[:SHORT]}"


def content_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        FileNotFoundError: with what would be right.
    """
    if not path.is_file():
        raise FileNotFoundError(f"teacher.checkpoint={path}: there is no such file")
    return hashlib.sha256(path.read_bytes()).hexdigest()
