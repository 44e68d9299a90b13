"""Fill the store with the students of several runs, trained in one pass.

Each run is then made as usual and finds its student in the store, under the key that it would have trained it under. So
this file decides nothing about results: what it leaves out (a student that another process is training, an assistant's
pupil, a cell whose settings are wrong) the run itself trains, or reports.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kd.data.loader import Loader
from kd.interfaces import Teacher
from kd.pipeline.distill import bind_student, open_teacher, run_teacher
from kd.pipeline.plan import RunPlan
from kd.pipeline.stage import StageSpec, TrainedModel, is_cached, write_stage
from kd.runtime.console import print_line
from kd.runtime.errors import first_line
from kd.store.store import Publish, digest
from kd.teachers.live import LiveTeacher
from kd.train.checkpoint import CheckpointFolder
from kd.train.together import fit_together
from kd.train.training import Training

# parts of a key that differ in a pass
OWN = ("network", "attention", "mean", "std", "image_size", "objective", "recipe", "seed", "second_augment")
COPIES = 6  # of a student's weights, for gradient, optimizer, average, best epoch and checkpoint
SHARE_OF_MEMORY = 0.5  # that the students of a pass may take


@dataclass
class Shared:
    """What the plans of a sweep have in common, kept once: each plan would hold its own copy in memory."""

    teachers: dict[str, StageSpec] = field(default_factory=dict)
    loaders: dict[str, Loader] = field(default_factory=dict)

    def slim(self, plan: RunPlan) -> RunPlan:
        """Return a plan with the teacher and the images of an earlier one, if those are the same."""
        stages = {}
        for role, spec in plan.stages.items():
            if role.startswith("teacher"):
                stages[role] = self.teachers.setdefault(spec.name, spec)
                continue
            images = {name: spec.key[name] for name in spec.key if name not in (*OWN, "teacher", "pick_by")}
            loader = self.loaders.setdefault(digest(images), spec.loader)
            stages[role] = replace(spec, loader=loader.with_seed(*spec.loader.stream))
        return replace(plan, stages=stages)


def with_own_teacher(plan: RunPlan) -> RunPlan:
    """Return a plan of ``Shared.slim`` with teachers of its own, since a training that fails leaves changed weights."""
    own = {spec.role: replace(spec, network=copy.deepcopy(spec.network)) for spec in plan.teachers}
    return replace(plan, stages={**plan.stages, **own})


@dataclass(frozen=True)
class Pupil:
    """A student of one plan, to be trained in a pass."""

    plan: RunPlan
    spec: StageSpec


def train_together(plans: Sequence[RunPlan], students: int | None = None, always: bool = False) -> None:
    """Train the baselines and students of several runs that are not in the store, in as few passes as possible.

    One pass has one data set, batch size, number of epochs and teacher; its students may have any seeds, numbers,
    methods (if they read the same of the teacher) and networks.

    Args:
        students, always: as of ``kd.train.together.fit_together``.

    Raises:
        KeyboardInterrupt: the process received a signal; the students have checkpoints.
    """
    for pupils in passes(plans):
        try:
            teacher = _teacher_of(pupils)
            size = how_many_fit(pupils)
            for start in range(0, len(pupils), size):
                _train(pupils[start : start + size], teacher, students, always)
        except Exception as error:
            print_line(f"one pass: {first_line(error)}; each cell trains its own student")


def _teacher_of(pupils: Sequence[Pupil]) -> TrainedModel | None:
    """Return the trained teacher of a pass; None if its students read none."""
    taught = [pupil for pupil in pupils if pupil.spec.taught_by]
    return run_teacher(with_own_teacher(taught[0].plan)) if taught else None


def passes(plans: Iterable[RunPlan]) -> list[list[Pupil]]:
    """Group the students that are missing in the store; a group of one is left to its run."""
    groups: dict[str, dict[str, Pupil]] = {}
    for plan in plans:
        for spec in plan.stages.values():
            direct = not spec.role.startswith("teacher") and spec.taught_by in (None, "teacher")
            if direct and not spec.is_trained and not is_cached(plan.store, spec, plan.world):
                groups.setdefault(pass_of(plan, spec), {}).setdefault(spec.name, Pupil(plan, spec))
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def pass_of(plan: RunPlan, spec: StageSpec) -> str:
    """Return the key of what all students of a pass share."""
    shared: dict[str, Any] = {name: value for name, value in spec.key.items() if name not in OWN}
    shared |= {"epochs": spec.recipe.epochs, "needs": sorted(spec.objective.needs), "store": str(plan.store.root)}
    shared |= {"source": plan.settings["teacher"]["source"], "weak": plan.settings["teacher"]["allow_weak"]}
    return digest(shared | {"device": str(plan.device)})


def how_many_fit(pupils: Sequence[Pupil]) -> int:
    """Return how many students' weights, gradients and optimizers memory can hold at a time; at least one."""
    device = pupils[0].plan.device.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    largest = max(sum(p.nbytes for p in pupil.spec.network.parameters()) for pupil in pupils)
    return max(1, int(SHARE_OF_MEMORY * free / (COPIES * largest)))


def _free_memory() -> int:
    """Return the bytes of memory that the machine can still give; a terabyte where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 2**40


def _train(pupils: Sequence[Pupil], teacher: TrainedModel | None, students: int | None, always: bool) -> None:
    """Claim students in the store, train them in one pass and publish those that succeed."""
    with ExitStack() as held:
        claims = [(pupil, held.enter_context(_claim(pupil))) for pupil in pupils]
        claimed = [(pupil, publish) for pupil, publish in claims if publish]
        if len(claimed) < 2:
            return
        print_line(f"one pass: {len(claimed)} students of {claimed[0][0].plan.dataset.name} train together")
        source = _sources(claimed[0][0], teacher)
        ready: list[tuple[Pupil, Publish, Training, list[dict[str, Any]]]] = []
        for pupil, publish in claimed:
            rows: list[dict[str, Any]] = []
            try:
                pupil, training = _begin(pupil, teacher, source, rows)
            except Exception:  # its own run reports it
                continue
            ready.append((pupil, publish, training, rows))
        outcomes = fit_together([training for _, _, training, _ in ready], students=students, always=always)
        for (pupil, publish, _, rows), about in zip(ready, outcomes, strict=True):
            if isinstance(about, Exception):
                continue
            plan, spec = pupil.plan, pupil.spec
            about = {**about, "run": plan.key}
            publish(partial(write_stage, spec=spec, about=about, rows=rows, device=plan.device))


def _claim(pupil: Pupil) -> Any:
    return pupil.plan.store.claim(pupil.spec.kind, pupil.spec.name)


def _begin(
    pupil: Pupil, teacher: TrainedModel | None, source: Callable[[Pupil], Teacher | None], rows: list[dict[str, Any]]
) -> tuple[Pupil, Training]:
    """Bind a student's method and make its training, at its latest checkpoint if it has one.

    Network and method are copies: the run that makes use of the plan afterwards needs them untrained.
    """
    plan, spec = pupil.plan, pupil.spec
    spec = replace(spec, network=copy.deepcopy(spec.network), objective=copy.deepcopy(spec.objective))
    if spec.has_method:
        spec = bind_student(plan, spec, teacher)
    train = plan.settings["train"]
    training = Training(
        spec.network,
        spec.objective,
        spec.loader,
        spec.recipe,
        plan.device,
        stage=spec.role,
        teacher=source(pupil),
        compile=train["compile"],
        pick_by=train["pick_by"],
        checkpoints=CheckpointFolder(plan.store.partial_dir(spec.kind, spec.name), train["checkpoint_minutes"]),
        log=rows.append,
        together=True,
        measure_gradients=train.get("measure_gradients", True),
    )
    return Pupil(plan, spec), training


def _sources(first: Pupil, teacher: TrainedModel | None) -> Callable[[Pupil], Teacher | None]:
    """Return a function that opens the teacher for a student: one live teacher, and one logit cache a seed."""
    if teacher is None or not first.spec.objective.needs:
        return lambda pupil: None
    live = LiveTeacher(teacher.network, first.plan.device, first.spec.objective.needs)
    opened: dict[str, Teacher] = {}

    def source(pupil: Pupil) -> Teacher:
        name = digest(pupil.plan.keys.logit_caches[pupil.spec.role])
        if name not in opened:
            opened[name] = open_teacher(pupil.plan, pupil.spec, live)
        return opened[name]

    return source
