"""Content keys: from the resolved settings to what determines each network, logit cache and run. Plain values only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.store.store import KEY_DIGITS, digest, shortened

VERSION = 3  # part of every key: raise it with a change of the code that changes numbers
NUMERICS = ("batch_size", "precision", "channels_last", "compile")  # of `train`: they change bits, or more

Settings = dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """What determines each thing that a run makes, as settings; their ``digest`` is its key.

    The key of a teacher holds no student, that of the baseline no teacher, no temperature and no alpha, that of a logit
    cache no objective. A term of weight 0 is in no key: at alpha = 0 the student is the baseline, at any temperature.
    No path, device or time is in any key.
    """

    networks: Mapping[str, Settings]  # by role: teacher (or teacher_1, ...), baseline, assistant_1, ..., student
    teacher: Settings  # all teachers of an ensemble as one; the teacher itself where there is one
    logit_caches: Mapping[str, Settings]  # by the role that is taught: assistant_1, ..., student
    run: Settings


def role_names(role: str, specs: Sequence[Any], numbered: bool) -> list[str]:
    """Name the networks of one role: "teacher_1", "teacher_2" where they are ``numbered``."""
    return [f"{role}_{number}" for number in range(1, len(specs) + 1)] if numbered else [role]


def run_keys(
    settings: Mapping[str, Any],
    fingerprint: str,
    asks_teacher: bool,
    members: Sequence[Mapping[str, Any]] = (),
    assistants: Sequence[Mapping[str, Any]] = (),
) -> Keys:
    """Return the keys of a run.

    Args:
        settings: the resolved config, plain values, with the precision that "auto" chose.
        fingerprint: of the data, by content.
        asks_teacher: whether a term of the student's objective reads the teacher.
        members: "network", "attention", "seed", "checkpoint" and "checkpoint_prefix" of every teacher of an ensemble.
        assistants: "network", "attention" and "seed" of those between teacher and student, in order.

    Raises:
        ValueError: two teachers of an ensemble that are the same.
    """
    train = settings["train"]
    views, learned = _view_settings(settings, fingerprint)

    def teacher_key(spec: Mapping[str, Any]) -> Settings:
        if spec["checkpoint"]:
            source = {name: spec[name] for name in ["checkpoint_prefix"] if spec.get(name) is not None}
            source["checkpoint"] = file_sha256(Path(spec["checkpoint"]).expanduser())
            return {"version": VERSION, "data": fingerprint, **architecture_key(spec), **source}
        return {**learned, **architecture_key(spec), "recipe": recipe_key(train["teacher"]), "seed": spec["seed"]}

    alone = {**settings["teacher"], "attention": settings["attention"]}
    of_teachers = [teacher_key(spec) for spec in members or [alone]]
    if any(key in of_teachers[:number] for number, key in enumerate(of_teachers)):
        raise ValueError("teacher.ensemble names one and the same network twice: give each a seed of its own")
    networks = dict(zip(role_names("teacher", of_teachers, len(of_teachers) > 1), of_teachers, strict=True))
    teacher = {"ensemble": of_teachers, "combine": settings["teacher"]["combine"]} if members else of_teachers[0]
    recipe = recipe_key(train["student"])
    del recipe["label_smoothing"]  # a term reads it
    student = {**learned, "network": settings["student"], "recipe": recipe, "seed": settings["seed"]}
    networks["baseline"] = {**student, "objective": active_terms(settings["baseline_kd"]), "teacher": None}
    taught = {**student, "objective": active_terms(settings["kd"])}
    shown = {name: recipe[name] for name in ("epochs", "mixup") if name in recipe}
    current_teacher, caches = digest(teacher), {}
    for role, spec in [*zip(role_names("assistant", assistants, True), assistants, strict=True), ("student", None)]:
        own = {} if spec is None else {**architecture_key(spec), "seed": spec["seed"]}
        networks[role] = {**taught, **own, "teacher": current_teacher if asks_teacher else None}
        caches[role] = {**views, "teacher": current_teacher, "seed": networks[role]["seed"], **shown}
        current_teacher = digest(networks[role])
    run = {
        "teacher": teacher,
        "student": networks["student"],
        "baseline": networks["baseline"] if settings["baseline"] else None,
        "latency": settings["latency"],
    }
    return Keys(networks, teacher, caches, run)


def _view_settings(settings: Mapping[str, Any], fingerprint: str) -> tuple[Settings, Settings]:
    """What determines the views that a network sees; and the same with what else determines what it learns of them.

    Settings that were added later leave keys alone where they are off.
    """
    train = settings["train"]
    views = {"version": VERSION, "data": fingerprint, "augment": settings["data"]["augment"]}
    views |= {name: train[name] for name in NUMERICS}
    if train["grad_accum_steps"] > 1:  # batch norm, and terms that compare the images of a batch, see one micro-batch
        views["grad_accum_steps"] = train["grad_accum_steps"]
    balance, pick_by = settings["data"].get("balance", "none"), train.get("pick_by", "accuracy")
    if balance == "sample":  # other images are drawn; a weight of labels changes no view
        views["balance"] = balance
    learned = views | ({"balance": balance} if balance != "none" else {})
    return views, learned | ({"pick_by": pick_by} if pick_by != "accuracy" else {})


def architecture_key(spec: Mapping[str, Any]) -> Settings:
    """The architecture of a network, with its attention and, if it has its own, the statistics of its input."""
    attention = spec.get("attention")
    key: Settings = {"network": spec["network"]}
    if attention:
        key["attention"] = {name: attention[name] for name in ("wrap", "stages")}
    return key | {name: spec[name] for name in ("mean", "std") if spec.get(name) is not None}


def recipe_key(recipe: Mapping[str, Any]) -> Settings:
    """A recipe without mixup where it is off: a setting that was added later leaves keys alone there."""
    return {name: value for name, value in recipe.items() if name != "mixup" or value}


def active_terms(objective: Mapping[str, Any]) -> Settings:
    """Weight, settings and schedule of each term whose weight is not 0."""
    schedule = objective.get("schedule") or {}
    return {
        name: {"weight": weight, "term": objective["terms"][name]}
        | ({"schedule": schedule[name]} if name in schedule else {})
        for name, weight in objective["weights"].items()
        if weight != 0
    }


def run_name(settings: Mapping[str, Any], choices: Mapping[str, str], key: str) -> str:
    """Name a run by data, teacher, student, method, the method's numbers, seed and the first digits of its key."""

    def named(group: str) -> str:
        network = "" if settings[group].get("ensemble") else settings[group].get("name") or ""  # of timm
        return choices[group] if network in choices[group] else f"{choices[group]}_{network}"

    attention = choices.get("attention", "none")
    attached = "" if attention == "none" or attention in choices["teacher"] else f"_{attention}"
    kd = [f"{name}{value:g}" for name, value in settings["kd"].items() if isinstance(value, int | float)]
    width = settings["student"].get("width", 1)
    student = named("student") + (f"_w{width:g}" if width != 1 else "")
    parts = [choices["data"], named("teacher") + attached, student, choices["kd"], *kd, f"seed{settings['seed']}"]
    return f"{shortened('-'.join(parts))}-{key[:KEY_DIGITS]}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"teacher.checkpoint={path}: there is no such file")
    return hashlib.sha256(path.read_bytes()).hexdigest()
