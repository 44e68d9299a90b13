"""Preflight checks: make every object that needs no data once, and drop it, before anything is written.

``kd/config/checks.py`` runs first and needs no torch. What depends on a method and its two networks is checked once the
data are loaded (``dry_run_methods``), still before anything is trained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.build import (
    build_augment,
    build_baseline_objective,
    build_dataset,
    build_network,
    build_objective,
    build_second_augment,
    check_input_size,
    instantiate_node,
    name_setting,
    normalized,
    own_classes,
    own_size,
)
from kd.config.checks import check_length, check_outputs
from kd.config.combine import expand_combination
from kd.config.composed import checked, resolved
from kd.config.keys import get_path, quote_value
from kd.config.networks import assistants_of, members_of
from kd.data.samplers import check_sampler
from kd.runtime.model_card import check_architecture, read_card, weights_in
from kd.store.store import digest
from kd.tracking.wandb_environment import find_agent

if TYPE_CHECKING:
    from kd.models.normalized import Normalized

TIMM = "kd.models.backbone.build"
CLASSES = 10  # outputs of the networks that are tried
SMALL = 256  # pixels per side up to which a network runs; for larger images only shapes are computed


class MethodRefused(ValueError):
    """A method cannot work with this teacher, this student or these data. The message is a sentence for the user."""


def check_run(config: Any) -> None:
    """Refuse settings that cannot run on this machine.

    Args:
        config: as Hydra composed it, with Hydra's part.

    Raises:
        ValueError: with the setting, its value and what would be right.
    """
    cfg, settings, choices = checked(config)
    check_outputs(settings["outputs"])
    check_length(str(config.hydra.output_subdir or ""), "hydra.output_subdir")
    if any(line.startswith("hydra.run.dir=") for line in config.hydra.overrides.hydra):
        check_outputs(config.hydra.run.dir, "hydra.run.dir")
    if "params" in config.hydra.sweeper and config.hydra.sweeper.params:
        raise ValueError("hydra.sweeper.params is for sweeps, and this is a single run: add -m")
    find_agent()  # refuses ids that W&B would not take
    from kd.models import hub

    if names := pretrained(settings, choices):
        hub.check_server()  # answers while torch is imported
    is_downloaded = settings["data"].get("root", "") is None  # perhaps; then it comes last, after all other checks
    if not is_downloaded:
        try_data(cfg)

    from kd.runtime.device import resolve_torch_device

    resolve_torch_device(settings["train"]["device"])
    try_objects(cfg, settings, choices, set())
    for name in names:
        hub.find_pretrained(name)
    if is_downloaded:
        try_data(cfg)


def check_jobs(configs: Iterable[Any]) -> None:
    """Refuse a multirun with a job that cannot run on any machine.

    Raises:
        ValueError: as of ``check_run``.
    """
    jobs, seen = [checked(config) for config in configs], set[str]()
    for job in jobs:
        check_outputs(job[1]["outputs"])
        try_objects(*job, seen)


def try_objects(cfg: Any, settings: Mapping[str, Any], choices: Mapping[str, str], seen: set[str]) -> None:
    """Make the methods, networks and recipes of what ``checked`` returned.

    Args:
        seen: keys of the networks that were already tried; those of this run are added.

    Raises:
        ValueError: as of ``check_run``.
    """
    cfg, choices = expand_combination(cfg, choices)
    with name_setting(cfg):
        objective = build_objective(cfg.kd)
        build_baseline_objective(cfg.baseline_kd)
        check_unlabelled(settings["data"], objective, choices["kd"])
        check_mixtures(settings, objective)
    from kd.train.layers import refuse_unlayered

    size, members = settings["data"].get("image_size"), members_of(settings, choices["teacher"])
    for node, role, spec in networks(settings, members, bool(objective.needs)):
        parts = ("network", "attention", "checkpoint", "checkpoint_prefix", "image_size", "classes")
        recipe = "train.teacher" if role.startswith("teacher") else "train.student"
        layered = {name: get_path(settings, f"{recipe}.{name}") for name in ("layer_decay", "freeze_epochs")}
        key = digest({"role": role, "size": size, **layered, **{part: spec.get(part) for part in parts}})
        if isinstance(size, int) and key not in seen:
            seen.add(key)
            with name_setting(cfg, node):
                network = try_network(role, spec, own_size(spec, size))
            try_image(network, role, spec, own_size(spec, size), partial(has_size, cfg))
            with name_setting(cfg):
                try_weights(network, spec)
                if not spec.get("checkpoint"):  # else it is not trained
                    refuse_unlayered(network, bool((spec.get("attention") or {}).get("wrap")), layered, recipe)
    from kd.pipeline.keys import run_keys
    from kd.teachers.logit_cache import teacher_factory  # takes a second to import

    teacher_factory(settings["teacher"]["source"], objective.needs, 0)
    is_combination = "weights" not in settings["kd"]  # kd=combine, which ``expand_combination`` expands
    method = resolved(cfg.kd) if is_combination else settings["kd"]
    run_keys({**settings, "kd": method}, "", bool(objective.needs), members)
    with name_setting(cfg, "augment"):
        build_augment(cfg)
    with name_setting(cfg, "second_augment"):
        build_second_augment(cfg)
    for node in ("train.student", "train.teacher"):  # last: the loop takes a second to import
        group, _, name = node.partition(".")
        with name_setting(cfg, node):
            instantiate_node(cfg[group][name])
    check_gradients(cfg, objective, choices["kd"])


def try_weights(network: Normalized, spec: Mapping[str, Any]) -> None:
    """Read the files of weights of a network: its checkpoint, and the pretrained weights that it starts from.

    Raises:
        ValueError: a file does not belong to the network.
    """
    if spec.get("checkpoint") and not hasattr(network.network, "read"):  # a program is read only if it is trusted
        from kd.models.weights import check_checkpoint

        path = Path(spec["checkpoint"]).expanduser()
        check_architecture(read_card(path), spec["network"].get("name"), path)
        check_checkpoint(network, weights_in(path), spec["checkpoint_prefix"])
    if spec["network"]["_target_"] == TIMM and isinstance(file := spec["network"].get("pretrained"), str):
        from kd.models.pretrained import read_pretrained

        read_pretrained(spec["network"]["name"], Path(file).expanduser())


def check_method(cfg: Any, settings: Mapping[str, Any], objective: Any, method: str) -> None:
    """Refuse a method that cannot work with the settings of a run, whatever its networks and images.

    Raises:
        MethodRefused: see ``check_unlabelled``, ``check_mixtures`` and ``check_gradients``.
        ValueError: a setting suits no method.
    """
    check_unlabelled(settings["data"], objective, method)
    check_mixtures(settings, objective)
    check_gradients(cfg, objective, method)


def check_mixtures(settings: Mapping[str, Any], objective: Any) -> None:
    """Refuse a method whose batches do not go with mixtures of images.

    Raises:
        MethodRefused: see ``kd.data.samplers.check_sampler``.
    """
    mixed = {name: get_path(settings, f"train.student.{name}") for name in ("mixup", "cutmix")}
    try:
        check_sampler(objective.sampler, **mixed)
    except ValueError as error:
        raise MethodRefused(str(error)) from error


def check_unlabelled(data: Mapping[str, Any], objective: Any, method: str) -> None:
    """Refuse images without labels (``data.unlabelled``, ``data.labelled``) with a method that cannot use them.

    Raises:
        MethodRefused: the method reads the label of every image or, with ``data.unlabelled``, no teacher. (Without one,
            a student learns from what ``data.labelled`` leaves.)
    """
    given = [f"data.{name}={data[name]}" for name in ("unlabelled", "labelled") if data[name] is not None]
    if not given:
        return
    where = " ".join(given)
    if not objective.needs:
        if data["unlabelled"] is None:
            return
        raise MethodRefused(f"{where}: a student learns from its teacher there, and kd={method} reads none")
    if objective.label_readers:
        named = ", ".join(objective.label_readers)
        raise MethodRefused(
            f"{where}: kd={method} reads the label of every image (kd.terms: {named}), and these have none. Methods "
            "that read none of their own, such as kd=hinton, take them"
        )
    if data["balance"] == "sample":
        raise ValueError(f"{where}: data.balance=sample draws by class, and these images have none; weight takes them")


def check_gradients(cfg: Any, objective: Any, method: str) -> None:
    """Refuse an optimizer or a method that keeps gradients apart where that cannot be.

    Raises:
        MethodRefused: see ``kd.train.apart.check_apart``. ValueError: a teacher has such an optimizer.
    """
    from kd.train.apart import check_apart

    student, teacher = (instantiate_node(cfg.train[role]) for role in ("student", "teacher"))
    if teacher.takes_parts:
        name = teacher.optimizer
        raise ValueError(
            f"train.teacher.optimizer={name}: a teacher learns from labels alone, where {name} is "
            "train.teacher.optimizer=momentum"
        )
    try:
        check_apart(student, objective, cfg.train.compile, method)
    except ValueError as error:
        raise MethodRefused(str(error)) from error


def pretrained(settings: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """Return the names of timm's networks that start from timm's published weights, not from a file."""
    specs = networks(settings, members_of(settings, choices["teacher"]), taught=True)
    nodes = [spec["network"] for _, _, spec in specs if spec["network"].get("pretrained") is True]
    return sorted({node["name"] for node in nodes if node["_target_"] == TIMM})


class StopBeforeData(BaseException):
    """The next step would read data. Not an ``Exception``, because data sets that download convert those."""


class StoreSentinel:
    """Stops a data set at its first access to the store, which comes after all checks that need no image."""

    def get_or_create(self, *entry: Any) -> Any:
        raise StopBeforeData

    path = get_or_create


def try_data(cfg: Any) -> None:
    """Check that the data exist, without reading them.

    Raises:
        ValueError: wrong settings of the data, or a wrong path.
    """
    with suppress(StopBeforeData), name_setting(cfg, "data"):
        build_dataset(cfg, StoreSentinel())


def has_size(cfg: Any, image_size: int) -> bool:
    """Whether the data set supports another ``data.image_size``; True for data that would first be downloaded."""
    if cfg.data.get("root", "") is None:
        return True
    try:
        with suppress(StopBeforeData):
            build_dataset(cfg, StoreSentinel(), image_size=image_size)
    except Exception:
        return False
    return True


def networks(
    settings: Mapping[str, Any], members: Sequence[Mapping[str, Any]], taught: bool
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (setting for error messages, role, spec) for each network of a run; the student first, as the quickest."""
    yield "student", "student", {"network": settings["student"]}
    assistants = assistants_of(settings) if taught else []
    for number, spec in enumerate(assistants, 1):
        yield f"kd.assistants, number {number}", f"assistant_{number}", spec
    for number, spec in enumerate(members, 1):
        yield f"teacher.ensemble, number {number}", f"teacher_{number}", spec
    if not members:
        whole = {**settings["teacher"], "attention": settings["attention"]}
        if settings["attention"]["wrap"]:
            yield "teacher.network", "teacher", {name: whole[name] for name in ("network", "image_size", "classes")}
            yield "attention.wrap", "teacher", whole
        else:
            yield "teacher.network", "teacher", {**whole, "attention": None}


def try_network(role: str, spec: Mapping[str, Any], image_size: int) -> Normalized:
    """Make a network without pretrained weights; for large images, on torch's meta device.

    Raises:
        ValueError: the network does not fit in memory.
    """
    import torch

    classes = len(own_classes(spec) or range(CLASSES))
    spec = {**spec, "network": {name: value for name, value in spec["network"].items() if name != "pretrained"}}
    with torch.device("meta"):  # shapes without memory
        network = build_network(spec, classes, image_size, tried=False)
    count = sum(weight.numel() for weight in network.parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**40
    if 4 * count > memory:
        named = ", ".join(
            f"{role}.{name}={quote_value(value)}" for name, value in spec["network"].items() if name[0] != "_"
        )
        raise ValueError(f"{named}: {count:,} parameters, {4 * count / 2**30:,.0f} GB, do not fit in memory")
    with torch.device(_device(image_size)):  # on meta, outputs with and without attention cannot be compared
        network = build_network(spec, classes, image_size, tried=image_size <= SMALL)
        return normalized(network, spec, [0.0] * 3, [1.0] * 3)


def try_image(
    network: Normalized, role: str, spec: Mapping[str, Any], image_size: int, has_size: Callable[[int], bool]
) -> None:
    """Refuse a network that does not accept images of this size.

    Args:
        has_size: whether the data set supports another size.

    Raises:
        ValueError: with settings that would work.
    """
    import torch

    with torch.device(_device(image_size)), suppress(FileNotFoundError):  # a network that is in a file
        classes = len(own_classes(spec) or range(CLASSES))
        check_input_size(network, spec, role, classes, image_size, has_size)


def _device(image_size: int) -> str:
    return "cpu" if image_size <= SMALL else "meta"
