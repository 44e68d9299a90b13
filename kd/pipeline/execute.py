"""A run, step by step: plan, reuse or train, measure, write, report, track."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kd.pipeline.batch_size import smallest_grad_accum
from kd.pipeline.describe import write_models
from kd.pipeline.distill import run_stages
from kd.pipeline.plan import RunPlan, RunResult
from kd.pipeline.prepare import prepare
from kd.pipeline.results import cost_fn, with_costs, write_results
from kd.records.ledger import error_line
from kd.records.run_folder import (
    MODELS,
    ROLE_LABELS,
    RUN_FILES,
    begin_run,
    finish_run,
    is_calm,
    note_failure,
    read_finished,
    refuse_another,
    write_result,
)
from kd.report.run.report import write_report
from kd.report.run.tables import comparison_rows, per_class_rows
from kd.runtime.console import print_line
from kd.runtime.distributed import end_distributed
from kd.runtime.errors import first_line
from kd.runtime.values import flatten
from kd.store.files import write_manifest
from kd.store.locks import locked
from kd.store.store import KEY_DIGITS, digest
from kd.tracking.tracker import Tracker
from kd.tracking.wandb_environment import find_agent

REUSED = "This run was made before and is reused. Delete its folder to make it again."


def run(
    cfg: Any, choices: Mapping[str, str], folder: Path | None = None, command: str = "", plan: RunPlan | None = None
) -> RunResult:
    """Make the run of a config, or reuse it.

    Args:
        cfg: as Hydra composed it, without Hydra's part. choices: the option chosen in each group.
        folder: the run folder, if not the default. command: the command that repeats the run, for the report.
        plan: of this config, if it is made already.
    """
    outcome = execute(plan or make_plan(cfg, choices), folder, command)
    end_distributed()
    return outcome


def make_plan(cfg: Any, choices: Mapping[str, str]) -> RunPlan:
    """Return the plan of a run; with ``train.batch_size=auto``, with the micro-batches that fit in memory."""
    plan = prepare(cfg, choices)
    if cfg.train.batch_size == "auto":
        count = smallest_grad_accum(plan)
        if count > cfg.train.grad_accum_steps:
            del plan  # and its tensors on the device
            plan = prepare(cfg, choices, count)
    return plan


def is_finished(plan: RunPlan) -> bool:
    """Whether an earlier command finished this run."""
    return find_finished(plan, plan.store.run(plan.name, plan.key)) is not None


def execute(plan: RunPlan, folder: Path | None = None, command: str = "") -> RunResult:
    """Reuse the run if its key exists; else train, measure, write, report and track it.

    All processes train; the main process does the rest.

    Args:
        folder, command: as of ``run``.
    """
    world = plan.world
    with _run_locks(plan, folder):
        given, folder = folder is not None, world.broadcast(folder or plan.store.run(plan.name, plan.key))
        if result := find_finished(plan, folder):
            return reuse(plan, folder, result)
        if given and world.is_main:
            refuse_another(folder, plan.key)
        print_line("\n".join([plan.name, *heading(plan)]))
        if not world.is_main:
            run_stages(plan)
            return RunResult(world.broadcast(), folder, reused=False)  # after the main process has written it
        begin_run(folder, plan.config_yaml, {"key": plan.key, "command": command, "choices": dict(plan.choices)})
        with _failure_noted(folder), make_tracker(plan, folder) as tracker:
            trained = run_stages(plan, tracker.log)
            result = write_results(plan, folder, trained, command)
            figures = report(plan, folder)
            track(tracker, folder, result, figures)
        finish_run(folder)
        world.broadcast(result)
    return RunResult(result, folder, reused=False, hint=f"{tracker.hint()}\nIt took {plan.clock}.")


@contextmanager
def _run_locks(plan: RunPlan, folder: Path | None) -> Iterator[None]:
    """Hold the lock of the run, and of a folder that the user chose, because another run may have the same one."""
    locks = plan.store.root / ".locks"
    with ExitStack() as held:
        if plan.world.is_main:
            held.enter_context(locked(locks / f"run-{plan.key[:KEY_DIGITS]}.lock", f"the run {plan.name}"))
            if folder:
                lock = f"folder-{digest({'folder': str(folder.absolute())})[:KEY_DIGITS]}.lock"
                held.enter_context(locked(locks / lock, f"{folder}"))
        yield


@contextmanager
def _failure_noted(folder: Path) -> Iterator[None]:
    """Write the error that ends a run into its folder. A signal is none: such a run is interrupted."""
    try:
        yield
    except Exception as error:
        with suppress(OSError):  # on a full disk the error to raise is still the run's own
            note_failure(folder, error_line(error))
        raise


def heading(plan: RunPlan) -> Iterator[str]:
    """Yield the lines that a run prints before it begins: images, device, and what is unusual about the data."""
    processes = f", {plan.world.size} processes" if plan.world.size > 1 else ""
    yield f"{len(plan.dataset.train):,} training images, {plan.device}{processes}"
    counts = {name: note for name, note in plan.dataset.notes.items() if note and isinstance(note, int)}
    if counts:
        notes = ", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in counts.items())
        yield f"{notes} (see the report)"


def find_finished(plan: RunPlan, folder: Path) -> dict[str, Any] | None:
    """Return the result of this run if an earlier command finished it, to all processes."""
    device = plan.device.device.type
    return plan.world.broadcast(read_finished(folder, plan.key, device) if plan.world.is_main else None)


def report(plan: RunPlan, folder: Path) -> dict[str, Path]:
    """Write the report, unless ``report=false``; return its figures by name."""
    made = write_report(folder) if plan.settings["report"] else {}
    return {name: path for name, path in made.items() if path.suffix == ".png"}


def make_tracker(plan: RunPlan, folder: Path | None) -> Tracker:
    """Return the run's tracker. Teacher and baseline are W&B runs of their own, shared by the runs that use them."""
    settings = plan.settings
    config = dict(flatten(settings)) | {f"choices.{group}": option for group, option in plan.choices.items()}
    about = {"root": plan.store.root, "run_id": plan.key[: 2 * KEY_DIGITS], "config": config, "name": plan.name}
    tracker = Tracker(folder, **about, job_type="distill", agent=find_agent(), **settings["tracking"])
    for role in {"teacher", "baseline"} & plan.stages.keys():
        own = digest(plan.stages[role].key)
        tracker.sibling(role, run_id=own[: 2 * KEY_DIGITS], name=f"{plan.choices['data']}-{role}-{own[:KEY_DIGITS]}")
    return tracker


def track(tracker: Tracker, folder: Path, result: Mapping[str, Any], figures: Mapping[str, Path]) -> None:
    """Log the result of a run, its figures and tables, and the student."""
    tables = {"teacher_vs_student": comparison_rows(result), "per_class": per_class_rows(result)}
    tracker.finish(result, figures, tables, artifacts={"student": folder / "student.safetensors"})


def reuse(plan: RunPlan, folder: Path, result: dict[str, Any]) -> RunResult:
    """Return a finished run; measure its latencies again, write its report and log it if that is due."""
    timed = time_again(plan, result)
    if plan.world.is_main and not (folder / MODELS).is_file() and _is_kept(plan):  # of a version that did not write it
        write_models(plan, folder)
        write_manifest(folder, RUN_FILES)
    if timed:
        write_result(folder, timed)
        write_manifest(folder, RUN_FILES)
    has_report = (folder / "report.md").is_file()
    if plan.world.is_main and (timed if has_report else plan.settings["report"]):
        write_report(folder)
    hint = _track_again(plan, folder, timed or result, changed=bool(timed)) if plan.world.is_main else ""
    return RunResult(timed or result, folder, reused=True, hint="\n".join(filter(None, [REUSED, hint])))


def _is_kept(plan: RunPlan) -> bool:
    """Whether the networks of a run are still in the store."""
    return all(plan.store.path(spec.kind, spec.name).is_dir() for spec in plan.stages.values())


def time_again(plan: RunPlan, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a finished run's result with new latencies, if the old ones were measured on a busy machine.

    None if they were not, or cannot be measured now, or the machine is still busy.
    """
    if plan.device.describe()["threads"] != result["machine"]["threads"]:
        return None  # with other threads, latencies would no longer be those of the settings in the result
    roles = [role for role in ROLE_LABELS if result.get(role)]
    if all(is_calm(result[role]) for role in roles) or not _is_kept(plan) or plan.world.size > 1:
        return None
    print_line(f"{result['name']}: its latencies may come from a busy machine: measuring them again")
    try:
        trained, cost = run_stages(plan), cost_fn(plan)
        costs = {role: cost(role, trained[role].network) for role in roles}
    except (
        OSError,
        ValueError,
    ) as error:  # a full disk, a teacher that a check now refuses: the old result stays valid
        print_line(f"they could not be measured: {first_line(error)}")
        return None
    return with_costs(result, costs) if all(map(is_calm, costs.values())) else None


def _track_again(plan: RunPlan, folder: Path, result: Mapping[str, Any], changed: bool) -> str:
    """Log a finished run to W&B if its result ``changed``, or if a ``wandb agent`` assigned it a new id; return how to
    view it."""
    tracker = make_tracker(plan, None)
    if not (tracker.agent or changed):
        return ""
    with tracker:
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            tracker.log(json.loads(line))
        track(tracker, folder, result, {path.stem: path for path in sorted((folder / "figures").glob("*.png"))})
    return tracker.hint()
