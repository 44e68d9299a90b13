"""Train the networks of a run: teacher (or teachers), baseline, assistants and student."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from kd.evaluation.metrics import accuracy
from kd.evaluation.predict import outputs_over, predict_distributed
from kd.interfaces import Batch, Context, Outputs, Teacher, extract_outputs
from kd.pipeline.plan import RunPlan
from kd.pipeline.stage import Log, StageSpec, TrainedModel, get_or_train, is_cached
from kd.runtime.memory import explain_out_of_memory, smaller_training
from kd.teachers.checks import check_above_majority, check_not_constant
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import cache_shape, teacher_factory
from kd.train.layers import refuse_unlayered

FEW = 16  # training images that a method's pass shows where it is tried


def run_stages(plan: RunPlan, log: Log = lambda row: None) -> dict[str, TrainedModel]:
    """Train the networks that are not in the store; return all by role, an ensemble as "teacher".

    Without a term that reads a teacher there is none.

    Raises:
        ValueError: a teacher does not pass ``check_teacher``.
    """
    trained = {"teacher": run_teacher(plan, log)} if plan.teachers else {}
    if "baseline" in plan.stages:
        trained["baseline"] = _run_stage(plan, plan.stages["baseline"], log)
    for spec in plan.taught:
        trained[spec.role] = _run_taught_stage(plan, spec, trained.get(spec.taught_by), log)
        if spec.role != "student":
            check_teacher(plan, spec.role, trained[spec.role])
    return trained


def run_teacher(plan: RunPlan, log: Log = lambda row: None) -> TrainedModel:
    """Train the teacher, or all of an ensemble, unless it is in the store.

    Raises:
        ValueError: it does not pass ``check_teacher``.
    """
    teachers = [_run_stage(plan, spec, log) for spec in plan.teachers]
    teacher = teachers[0] if plan.builder.combine is None else ensemble_teachers(plan, teachers)
    check_teacher(plan, "teacher", teacher)
    return teacher


def _run_taught_stage(plan: RunPlan, spec: StageSpec, teacher: TrainedModel | None, log: Log) -> TrainedModel:
    """Bind the method, open the teacher if there is something to train, train."""
    with _timed(plan, spec.role):
        live = LiveTeacher(teacher.network, plan.device, spec.objective.needs) if teacher else None
        spec = bind_student(plan, spec, teacher)
        is_needed = live and not is_cached(plan.store, spec, plan.world)
        source = open_teacher(plan, spec, live) if is_needed else None
    return _run_stage(plan, spec, log, source)


def _run_stage(plan: RunPlan, spec: StageSpec, log: Log, teacher: Teacher | None = None) -> TrainedModel:
    train = plan.settings["train"]
    with _timed(plan, spec.role):
        return get_or_train(
            plan.store,
            spec,
            plan.device,
            log,
            teacher=teacher,
            world=plan.world,
            compile=train["compile"],
            pick_by=train["pick_by"],
            checkpoint_minutes=train["checkpoint_minutes"],
            measure_gradients=train.get("measure_gradients", True),
            run=plan.key,
        )


@contextmanager
def _timed(plan: RunPlan, role: str) -> Iterator[None]:
    """Count the seconds of a role; explain an out-of-memory error with the role and smaller settings."""
    train = plan.settings["train"]
    with (
        plan.clock(role),
        explain_out_of_memory(role, **smaller_training(train["batch_size"], train["grad_accum_steps"])),
    ):
        yield


def check_teacher(plan: RunPlan, role: str, teacher: TrainedModel) -> None:
    """Refuse a teacher that knows too little, if a network reads its outputs; see ``kd.teachers.checks``.

    The accuracy is that on the validation images. Constant outputs are detected in the logits of the test images, which
    were computed when the teacher was trained; no test label is read.

    Raises:
        ValueError: its outputs are constant, or its accuracy is below that of the majority class.
    """
    student, settings, dataset = plan.stages["student"], plan.settings, plan.dataset
    if not student.objective.needs:
        return
    check_not_constant(role, teacher.test_logits)
    if not settings["teacher"]["allow_weak"]:
        predict = partial(predict_distributed, teacher.network, student.loader, dataset.val, plan.device, plan.world)
        share, targets = teacher.training["best_val_accuracy"], dataset.targets[dataset.val]
        balanced = settings["data"]["balance"] != "none" or settings["train"]["pick_by"] != "accuracy"
        check_above_majority(role, share, targets, dataset.classes, predict, balanced)


def ensemble_teachers(plan: RunPlan, teachers: list[TrainedModel]) -> TrainedModel:
    """Return trained teachers as one model."""
    loader, dataset = plan.teachers[0].loader, plan.dataset
    network = plan.device.to_device(plan.builder.ensemble([teacher.network for teacher in teachers])).eval()
    val_logits, test_logits = (
        predict_distributed(network, loader, positions, plan.device, plan.world)
        for positions in (dataset.val, dataset.test)
    )
    share = accuracy(val_logits, dataset.targets[dataset.val])
    accounts = [teacher.training for teacher in teachers]
    training = {name: max(account[name] for account in accounts) for name in ("epochs", "best_epoch")}
    training |= {"best_val_accuracy": share, "last_val_accuracy": share}
    training |= {"seconds": sum(account["seconds"] for account in accounts)}
    training |= {"found": all(account["found"] for account in accounts)}
    return TrainedModel(network, teachers[0].folder, training, test_logits)


def bind_student(plan: RunPlan, spec: StageSpec, teacher: TrainedModel | None) -> StageSpec:
    """Bind the method of an assistant or the student to its trained teacher, if it has one.

    Returns:
        The spec with the network that is trained, which may be more than the student.
    """
    torch.manual_seed(spec.loader.seed)  # for the layers that a method adds to the student
    network = spec.objective.bind(method_context(plan, spec.role, spec.network, teacher and teacher.network))
    return replace(spec, network=network)


def open_teacher(plan: RunPlan, spec: StageSpec, live: LiveTeacher) -> Teacher:
    """Return the teacher for the batches of ``spec``: ``live``, or its logit cache, which is filled first."""
    key, epochs = plan.keys.logit_caches[spec.role], spec.recipe.epochs
    return _teacher_source(plan)(plan.store, key, live, spec.loader, epochs, plan.clock, plan.world)


def _teacher_source(plan: RunPlan) -> Callable[..., Teacher]:
    """Choose between the live teacher and its logit cache by ``teacher.source``."""
    student = plan.stages["student"]
    count = math.prod(cache_shape(student.loader, student.recipe.epochs))
    return teacher_factory(plan.settings["teacher"]["source"], student.objective.needs, count)


def method_context(
    plan: RunPlan, role: str, student: nn.Module, teacher: nn.Module | None, few: bool = False
) -> Context:
    """Return the context that a method is bound to: see ``Objective.bind``.

    Args:
        few: a pass over the training images shows only a few of them, where a method is tried.
    """
    device, loader, dataset = plan.device, plan.stages[role].loader, plan.dataset
    shown = dataset.train
    if few:  # at equal distances: where they are sorted by class, of many classes
        shown = shown[np.linspace(0, len(shown) - 1, min(FEW, len(shown))).astype(int)]

    def forward(network: nn.Module, image: Tensor, needs: Set[str]) -> Outputs:
        with device.autocast():
            return extract_outputs(network, image, needs).to_float32(needs)

    def over_train(network: nn.Module, needs: Set[str]) -> Iterator[tuple[Outputs, Batch]]:
        return outputs_over(network, needs, loader, shown, device)

    return Context(
        student=student,
        teacher=teacher,
        make_student=lambda number: device.to_device(plan.builder.build(role, number)),
        forward=forward,
        targets=torch.from_numpy(loader.targets),
        train=torch.from_numpy(loader.train),
        image_size=dataset.image_size,
        over_train=over_train,
        batch_size=loader.batch_size,
    )


def dry_run_methods(plan: RunPlan) -> None:
    """Run each method once on copies of its untrained networks, so that its errors appear before any training.

    Raises:
        ValueError: from the method, or ``teacher.source`` does not provide what it reads.
    """
    _teacher_source(plan)
    size = plan.dataset.image_size
    for spec in plan.taught:
        networks = spec.network, plan.initial_teacher(spec)
        objective, student, teacher = (module and copy.deepcopy(module).cpu() for module in (spec.objective, *networks))
        needs = objective.needs
        student = objective.bind(method_context(plan, spec.role, student, teacher and teacher.eval(), few=True))
        layered = {name: getattr(spec.recipe, name) for name in ("layer_decay", "freeze_epochs")}
        refuse_unlayered(student, False, layered, "train.student")  # a method may have replaced the network
        objective.deploy(student)
        with torch.no_grad():
            outputs = [
                module and extract_outputs(module, torch.rand(2, 3, size, size), reads).to_float32(reads)
                for module, reads in ((student, objective.student_needs), (teacher, needs))
            ]
        objective.setup(*outputs)
