"""From a config to a ``RunPlan``: everything that a run needs exists before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.build import (
    ModelBuilder,
    build_augment,
    build_baseline_objective,
    build_dataset,
    build_objective,
    build_second_augment,
    instantiate_node,
)
from kd.config.checks import check_values
from kd.config.combine import expand_combination
from kd.config.composed import as_written, as_yaml, resolved
from kd.config.networks import assistants_of, members_of, name_of
from kd.config.settings import AUTO_BATCH_SIZE
from kd.config.weights import weight_settings
from kd.data.loader import Loader
from kd.data.unlabelled import add_unlabelled
from kd.methods.supervised import CrossEntropy, learns_labels
from kd.pipeline.distill import dry_run_methods
from kd.pipeline.keys import Keys, role_names, run_keys
from kd.pipeline.plan import RunPlan
from kd.pipeline.precision import choose_precision
from kd.pipeline.preflight import MethodRefused, check_method
from kd.pipeline.stage import StageSpec
from kd.runtime.device import resolve_device, resolve_torch_device
from kd.runtime.distributed import init_distributed
from kd.runtime.timer import Timer
from kd.runtime.user_warnings import warn_user
from kd.store.store import Store
from kd.train.objective import Objective

Spec = Mapping[str, Any]


def prepare(cfg: Any, choices: Mapping[str, str], micro_batches: int | None = None) -> RunPlan:
    """Make the plan of a run and try its methods, so that a wrong setting shows before anything is trained.

    Raises:
        MethodRefused: the method cannot work with these networks. ValueError: as of ``draw_plan``.
    """
    plan = draw_plan(cfg, choices, micro_batches)
    try_methods(plan)
    return plan


def try_methods(plan: RunPlan) -> None:
    """Run each method of a plan once, on copies of its untrained networks.

    Raises:
        MethodRefused: it cannot work with them, in the method's own words.
    """
    try:
        dry_run_methods(plan)
    except ValueError as error:
        raise MethodRefused(str(error)) from error


def draw_plan(cfg: Any, choices: Mapping[str, str], micro_batches: int | None = None) -> RunPlan:
    """Make the plan of a run: everything before the training, but no method is tried.

    Args:
        cfg: as Hydra composed it, without Hydra's part. choices: the option chosen in each group.
        micro_batches: the number per batch, in place of ``train.grad_accum_steps``.

    Raises:
        ValueError: with the setting, its value and what would be right.
    """
    cfg = _with_batches(cfg, micro_batches)
    check_values(as_written(cfg), resolved(cfg))
    named = weight_settings(as_written(cfg))
    cfg, choices = expand_combination(cfg, choices)
    settings = resolved(cfg)
    clock, train, world = Timer(), cfg.train, init_distributed()
    number = world.local if world.size > 1 else None
    store = Store(Path(cfg.outputs or "outputs").expanduser())
    precision = choose_precision(train.precision, resolve_torch_device(train.device, number), store, world)
    device = resolve_device(train.device, precision, train.channels_last, train.threads, number)
    settings["train"]["precision"] = device.describe()["precision"]  # "auto" gives other networks on other machines
    objective = build_objective(cfg.kd)
    if cfg.data.balance == "weight" and not learns_labels(objective):
        name = choices["kd"]
        warn_user(f"data.balance=weight weights labels, and kd={name} reads none: only teacher and baseline use it")
    reads_teacher = bool(objective.needs)  # without, nothing is to be learnt from a teacher: none is made
    members = members_of(settings, choices["teacher"]) if reads_teacher else []
    if members:
        choices["teacher"] = name_of(members)
    elif not reads_teacher:
        choices = {group: name for group, name in choices.items() if group not in ("teacher", "attention")}
    assistants = assistants_of(settings) if reads_teacher else []
    check_method(cfg, settings, objective, choices["kd"])
    with clock("data"), world.main_process_first():
        dataset = build_dataset(cfg, store)
        if cfg.data.unlabelled is not None:
            dataset = add_unlabelled(store, dataset, cfg.data.unlabelled, cfg.data.get("on_bad_file", "skip"))
    unlabelled = dataset.unlabelled.fingerprint if dataset.unlabelled else None

    keys = run_keys(
        settings,
        dataset.fingerprint,
        reads_teacher,
        members,
        assistants,
        objective.views,
        objective.second_augment,
        unlabelled,
        objective.sampler,
        objective.balance,
    )
    alone = {**settings["teacher"], "attention": settings["attention"]}
    teachers = (members or [alone]) if reads_teacher else []
    specs = network_specs(settings, teachers, assistants)
    builder = ModelBuilder(dataset, specs, cfg.teacher.combine if members else None)
    loader = Loader(
        dataset,
        train.batch_size,
        cfg.seed,
        device.device,
        grad_accum_steps=train.grad_accum_steps,
        balance=cfg.data.balance,
        augment=build_augment(cfg),
    )
    stages = teacher_stages(cfg, builder, keys, loader) | student_stages(cfg, builder, keys, loader, objective)
    for spec in stages.values():
        if spec.has_method:
            spec.objective.weight_settings = named
    published = f"{settings['teacher']['network'].get('name')} {settings['attention']['stages']}"
    return RunPlan(
        settings=settings,
        config_yaml=as_yaml(settings),
        choices=choices,
        keys=keys,
        store=store,
        device=device,
        world=world,
        dataset=dataset,
        stages=stages,
        builder=builder,
        unused_params=0 if members else cfg.attention.unused_published_params.get(published, 0),
        clock=clock,
    )


def _with_batches(cfg: Any, micro_batches: int | None) -> Any:
    """Return the config with numbers for ``train.batch_size=auto`` and, where given, for the micro-batches."""
    cfg = copy.deepcopy(cfg)
    if cfg.train.batch_size == "auto":
        cfg.train.batch_size = AUTO_BATCH_SIZE
    if micro_batches:
        cfg.train.grad_accum_steps = micro_batches
    return cfg


def network_specs(settings: Spec, teachers: list[Spec], assistants: list[Spec]) -> dict[str, Spec]:
    """Return the spec of each network by role, see ``build_network``, with its seed."""
    specs = dict(zip(role_names("teacher", teachers, len(teachers) > 1), teachers, strict=True))
    specs |= zip(role_names("assistant", assistants, True), assistants, strict=True)
    return specs | {"student": {"network": settings["student"], "seed": settings["seed"]}}


def teacher_stages(cfg: Any, builder: ModelBuilder, keys: Keys, loader: Loader) -> dict[str, StageSpec]:
    """Return the spec of each teacher; each learns from labels alone, in its own order of images."""
    recipe, stages = instantiate_node(cfg.train.teacher), {}
    for role, spec in builder.specs.items():
        if role.startswith("teacher"):
            labels = Objective({"hard": CrossEntropy(recipe.label_smoothing)}, {"hard": 1.0})
            own, is_trained = loader.with_seed(spec["seed"], **recipe.shown), bool(spec["checkpoint"])
            network = builder.build(role)
            stages[role] = StageSpec(
                role, "teachers", keys.networks[role], network, labels, recipe, own, is_trained=is_trained
            )
    return stages


def student_stages(
    cfg: Any, builder: ModelBuilder, keys: Keys, loader: Loader, objective: Objective
) -> dict[str, StageSpec]:
    """Return the specs of baseline, assistants and student; each assistant is taught by the previous one.

    Args:
        objective: of the student. Every assistant has its own copy.
    """
    recipe, stages = instantiate_node(cfg.train.student), {}
    teacher = "teacher" if objective.needs else None
    own = loader.with_seed(cfg.seed, **recipe.shown)
    labels = build_baseline_objective(cfg.baseline_kd)
    second = build_second_augment(cfg) if objective.second_augment else None
    asked = {"views": objective.views, "unlabelled": bool(objective.needs), "sampler": objective.sampler}
    if cfg.baseline:
        network = builder.build("student")
        stages["baseline"] = StageSpec("baseline", "students", keys.networks["baseline"], network, labels, recipe, own)
    for role in keys.logit_caches:
        stages[role] = StageSpec(
            role,
            "students",
            keys.networks[role],
            builder.build(role),
            objective if role == "student" else build_objective(cfg.kd),
            recipe,
            loader.with_seed(builder.specs[role]["seed"], **recipe.shown, **asked, second=second),
            taught_by=teacher,
        )
        teacher = role
    return stages
