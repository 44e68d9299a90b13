"""Content keys: the settings that determine each network, logit cache and run. Plain values only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.runtime.class_names import read_class_names
from kd.runtime.model_card import read_card, weights_in
from kd.store.store import KEY_DIGITS, digest, shortened

VERSION = 5  # part of every key: raise it when a change of the code changes numbers
NUMERICS = ("batch_size", "precision", "channels_last", "compile")  # of `train`: they change at least the last bits

# settings of a recipe that are in no key while they are off
ADDED_LATER = ("mixup", "cutmix", "layer_decay", "freeze_epochs", "view_epochs")
ADDED_TO_SCHEDULES = ("fall",)  # the same of a schedule
ADDED_TO_TERMS = {"kd.methods.wkd_logits.WKDLogits": ("images", "fall")}  # and of a term, by its target

OF_OPTIMIZERS = {"delta": "dot"}  # settings of a recipe that one optimizer reads: they are in no key beside another
OF_PARTS = ("delta",)  # those that change nothing where labels alone teach,
LABELS = {"kd.methods.supervised.CrossEntropy"}  # as these terms do

Settings = dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """The settings that determine each artifact of a run; their ``digest`` is its key.

    The key of a teacher contains no student, that of the baseline no teacher, temperature or alpha, and that of a logit
    cache no objective. A term of weight 0 is in no key: at alpha = 0 the student is the baseline, at any temperature.
    No key contains a path, device or time.
    """

    networks: Mapping[str, Settings]  # by role: teacher (or teacher_1, ...), baseline, assistant_1, ..., student
    teacher: Settings  # of an ensemble, all its teachers; else that of the teacher
    logit_caches: Mapping[str, Settings]  # by the role that is taught: assistant_1, ..., student
    run: Settings


def role_names(role: str, specs: Sequence[Any], numbered: bool) -> list[str]:
    """Name the networks of one role: "teacher_1", "teacher_2" if ``numbered``."""
    return [f"{role}_{number}" for number in range(1, len(specs) + 1)] if numbered else [role] * len(specs)


def run_keys(
    settings: Mapping[str, Any],
    fingerprint: str,
    reads_teacher: bool,
    members: Sequence[Mapping[str, Any]] = (),
    assistants: Sequence[Mapping[str, Any]] = (),
    view_count: int = 1,
    second_augment: bool = False,
    unlabelled: str | None = None,
    sampler: str | None = None,
    balance: Mapping[str, float] | None = None,
) -> Keys:
    """Return the keys of a run.

    Args:
        settings: the resolved config, plain values, with the precision that "auto" chose.
        fingerprint: of the data, by content.
        reads_teacher: whether a term of the student's objective reads the teacher.
        members: of every teacher of an ensemble, see ``architecture_key``, with "seed", "checkpoint" and
            "checkpoint_prefix".
        assistants: of the networks between teacher and student, in order, with "seed".
        view_count: of each image, which the student's method compares. second_augment: whether ``second_augment``
            makes the second one.
        unlabelled: fingerprint of the images without labels, which no teacher and no baseline sees.
        sampler: what the student's method is shown beside the images of a batch.
        balance: the shares by which the start of the training chooses weights, by term of the student's objective.

    Raises:
        ValueError: an ensemble contains the same teacher twice.
    """
    train = settings["train"]
    views, learned = _view_settings(settings, fingerprint)

    def teacher_key(spec: Mapping[str, Any]) -> Settings:
        if spec["checkpoint"]:
            source = {name: spec[name] for name in ["checkpoint_prefix"] if spec.get(name) is not None}
            source |= file_key(spec["checkpoint"], "checkpoint", "teacher.checkpoint", spec)
            return {"version": VERSION, "data": fingerprint, **architecture_key(spec), **source}
        return {**learned, **architecture_key(spec), "recipe": recipe_key(train["teacher"]), "seed": spec["seed"]}

    alone = {**settings["teacher"], "attention": settings["attention"]}
    of_teachers = [teacher_key(spec) for spec in members or [alone]]
    if any(key in of_teachers[:number] for number, key in enumerate(of_teachers)):
        raise ValueError("teacher.ensemble names the same network twice: give each its own seed")
    networks = dict(zip(role_names("teacher", of_teachers, len(of_teachers) > 1), of_teachers, strict=True))
    teacher = {"ensemble": of_teachers, "combine": settings["teacher"]["combine"]} if members else of_teachers[0]
    recipe = recipe_key(train["student"])
    del recipe["label_smoothing"]  # a term reads it
    student = {
        **learned,
        **architecture_key({"network": settings["student"]}),
        "recipe": recipe,
        "seed": settings["seed"],
    }
    alone = active_terms(settings["baseline_kd"])
    unread = OF_PARTS if {each["term"].get("_target_") for each in alone.values()} <= LABELS else ()
    own_recipe = {name: value for name, value in recipe.items() if name not in unread}
    networks["baseline"] = {**student, "recipe": own_recipe, "objective": alone, "teacher": None}
    more = {} if unlabelled is None else {"unlabelled": unlabelled}
    if second_augment:
        more |= {"second_augment": second_augmentation_key(settings)}
    taught = {**student, "objective": active_terms(settings["kd"], balance or {}), **more}
    shown = {name: recipe[name] for name in ("epochs", "mixup", "cutmix") if name in recipe}
    shown["epochs"] = min(recipe["epochs"], recipe.get("view_epochs") or recipe["epochs"])
    shown |= more | ({"views": view_count} if view_count > 1 else {}) | ({"sampler": sampler} if sampler else {})
    current_teacher, caches = digest(teacher), {}
    for role, spec in [*zip(role_names("assistant", assistants, True), assistants, strict=True), ("student", None)]:
        own = {} if spec is None else {**architecture_key(spec), "seed": spec["seed"]}
        networks[role] = {**taught, **own, "teacher": current_teacher if reads_teacher else None}
        caches[role] = {**views, "teacher": current_teacher, "seed": networks[role]["seed"], **shown}
        current_teacher = digest(networks[role])
    run = {
        "teacher": teacher if reads_teacher else None,
        "student": networks["student"],
        "baseline": networks["baseline"] if settings["baseline"] else None,
        "latency": settings["latency"],
    }
    return Keys(networks, teacher, caches, run)


def _view_settings(settings: Mapping[str, Any], fingerprint: str) -> tuple[Settings, Settings]:
    """Return the settings that determine the views of a training, and these plus the others that determine its result.

    A setting that was added later is in no key while it is off.
    """
    train = settings["train"]
    views = {"version": VERSION, "data": fingerprint, "augment": augmentation_key(settings)}
    views |= {name: train[name] for name in NUMERICS}
    if train["grad_accum_steps"] > 1:  # batch norm, and terms that compare the images of a batch, use one micro-batch
        views["grad_accum_steps"] = train["grad_accum_steps"]
    balance, pick_by = settings["data"].get("balance", "none"), train.get("pick_by", "accuracy")
    if balance == "sample":  # changes which images are drawn; "weight" changes no view
        views["balance"] = balance
    learned = views | ({"balance": balance} if balance != "none" else {})
    return views, learned | ({"pick_by": pick_by} if pick_by != "accuracy" else {})


def architecture_key(spec: Mapping[str, Any]) -> Settings:
    """Return the architecture of a network: with its attention and, if it has its own, image size, classes and the
    statistics of its input.

    A file of pretrained weights, and one of class names, counts by its content.
    """
    attention, network = spec.get("attention"), dict(spec["network"])
    if isinstance(network.get("pretrained"), str):
        network["pretrained"] = file_key(network["pretrained"], "sha256", "pretrained", spec)
    key: Settings = {"network": network}
    if attention:
        key["attention"] = {name: attention[name] for name in ("wrap", "stages")}
    if spec.get("classes"):
        key["classes"] = read_class_names(Path(spec["classes"]).expanduser())
    return key | {name: spec[name] for name in ("mean", "std", "image_size") if spec.get(name) is not None}


def augmentation_key(settings: Mapping[str, Any]) -> list[Settings]:
    """Return the steps that make the views, in order; their names change nothing."""
    return list(settings["augment"]["steps"].values())


def second_augmentation_key(settings: Mapping[str, Any]) -> list[Settings]:
    """Return the steps that make the second view, as ``build_second_augment`` makes them."""
    node = settings.get("second_augment")
    if node is None:
        return augmentation_key(settings)
    before = augmentation_key(settings) if node.get("after_augment") else []
    return [*before, *node["steps"].values()]


def recipe_key(recipe: Mapping[str, Any]) -> Settings:
    """Return a recipe without what is off in it: a setting that was added later is in no key while it is off."""
    unread = {name for name, optimizer in OF_OPTIMIZERS.items() if recipe["optimizer"] != optimizer}
    return {name: value for name, value in recipe.items() if name not in unread and (name not in ADDED_LATER or value)}


def active_terms(objective: Mapping[str, Any], balance: Mapping[str, float] | None = None) -> Settings:
    """Return weight, settings and schedule of each term whose weight is not 0.

    A setting that was added later is in no key while it is off, which it is where its value is 0.

    Args:
        balance: of ``run_keys``. A balanced term has its weight in the key too: one that pulls nowhere at the start
            keeps it.
    """
    schedule, balance = objective.get("schedule") or {}, balance or {}
    active = {}
    for name, weight in objective["weights"].items():
        if weight != 0:
            term = objective["terms"][name]
            added = ADDED_TO_TERMS.get(term.get("_target_"), ())
            active[name] = {"weight": weight, "term": _without_off(term, added)}
            if name in balance:
                active[name]["balance"] = balance[name]
            if shown := _without_off(schedule.get(name, {}), ADDED_TO_SCHEDULES):
                active[name]["schedule"] = shown
    return active


def _without_off(settings: Mapping[str, Any], added: Sequence[str]) -> Settings:
    return {name: value for name, value in settings.items() if name not in added or value}


def run_name(settings: Mapping[str, Any], choices: Mapping[str, str], key: str) -> str:
    """Name a run by data, teacher, student, method, the method's numbers, seed and the first digits of its key.

    A run without a teacher has none among its ``choices``.
    """

    def named(group: str) -> str:
        network = "" if settings[group].get("ensemble") else settings[group].get("name") or ""  # of timm
        return choices[group] if network in choices[group] else f"{choices[group]}_{network}"

    attention, teacher = choices.get("attention", "none"), []
    if "teacher" in choices:
        attached = "" if attention == "none" or attention in choices["teacher"] else f"_{attention}"
        teacher = [named("teacher") + attached]
    kd = [f"{name}{value:g}" for name, value in settings["kd"].items() if isinstance(value, int | float)]
    width = settings["student"].get("width", 1)
    student = named("student") + (f"_w{width:g}" if width != 1 else "")
    parts = [choices["data"], *teacher, student, choices["kd"], *kd, f"seed{settings['seed']}"]
    return f"{shortened('-'.join(parts))}-{key[:KEY_DIGITS]}"


def file_key(path: str, name: str, setting: str, spec: Mapping[str, Any]) -> Settings:
    """Return the content of a file of weights under ``name``, and the statistics of its input that its card sets.

    Args:
        path: of a file, or of the folder of a model card. spec: of the network; its own statistics count instead.

    Raises:
        FileNotFoundError: there is no such file; names the setting.
        ValueError: see ``read_card``.
    """
    place = Path(path).expanduser()
    card, own = read_card(place), spec.get("mean") is not None or spec.get("std") is not None
    key: Settings = {name: file_sha256(place, setting)}
    if card and not own:
        key |= {f"card_{each}": value for each, value in (("mean", card.mean), ("std", card.std)) if value}
    return key


def file_sha256(path: Path, setting: str) -> str:
    """Return the SHA-256 of a file of weights.

    Raises:
        FileNotFoundError: there is no such file; names the setting.
    """
    try:
        with weights_in(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{setting}={path}: {error}") from None
