"""A run, once everything is made: teacher, twin and student are found or trained, measured, written down, shown."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd.aptitude import refuse_constant, refuse_weak
from kd.clock import Clock
from kd.data.pictures import Pictures
from kd.evaluate import accuracy
from kd.interfaces import Context, Outputs, Teacher, first_line, observe
from kd.machine import Machine
from kd.measure import costs_once
from kd.memory import in_memory, of_training
from kd.parallel import Ranks
from kd.plan import Keys, readable
from kd.progress import say
from kd.report import write_report
from kd.results import KEPT, UNFINISHED, finished, refuse_another, with_costs, write_files, write_result
from kd.runtime.values import flatten
from kd.stages import Task, Trained, train_once
from kd.store import SHORT, SIZES, Store, digest, seal, waiting, write_text
from kd.tables import LABEL, comparison_rows, is_calm, per_class_rows
from kd.teacher import LiveTeacher
from kd.tracking.tracker import Tracker
from kd.tracking.wandb_environment import find_agent
from kd.train import predict_together


@dataclass(frozen=True)
class Parts:
    """What a run is made of. Nothing is trained yet, but all that a wrong setting could break has been made."""

    settings: dict[str, Any]  # resolved
    written: str  # the same as yaml
    choices: Mapping[str, str]  # the option taken in each group
    keys: Keys
    store: Store
    machine: Machine
    ranks: Ranks  # the processes that share the run
    pictures: Pictures
    tasks: Mapping[str, Task]  # teacher (or several: teacher_1 ...), baseline (if wanted), assistant_1 ..., student
    fresh: Mapping[str, Callable[[int], Any]]  # by stage, of those that are taught: makes another such network
    together: Callable[[list[Any]], Any] | None  # of several teachers: makes them one
    banks: Mapping[str, Any]  # by stage, of those that are taught: settings of the bank of who teaches it
    source: Callable[..., Any]  # of the teacher's answers: live or banked
    unused: int  # parameters of the teacher's published class that no forward pass touches
    clock: Clock


FOUND = "This run was found: it had been made before. Remove its folder to make it again."


class Ran(NamedTuple):
    """What a run came to."""

    result: dict[str, Any]  # of result.json
    folder: Path
    found: bool  # it had been made before
    hint: str = FOUND


def carry_out(parts: Parts, folder: Path | None = None, command: str = "") -> Ran:
    """Find the run under its key, else make it.

    Args:
        folder: where it goes, if not where its key says. command: what starts it again, for the report.
    """
    store, ranks, settings = parts.store, parts.ranks, parts.settings
    key = digest(parts.keys.run)
    name = readable(settings, parts.choices, key)
    lock = store.root / ".locks" / f"run-{key[:SHORT]}.lock"
    # of several processes all train; the first finds, writes, tracks and measures
    beside = store.root / ".locks" / f"folder-{digest({'folder': str(folder and folder.absolute())})[:SHORT]}.lock"
    with (
        waiting(lock, f"the run {name}") if ranks.first else nullcontext(),
        waiting(beside, f"{folder}") if ranks.first and folder else nullcontext(),  # which other runs may be given too
    ):
        given, folder = folder is not None, ranks.tell(folder or store.run(name, key))
        drawn = settings["report"]
        before = ranks.tell(finished(folder, key, parts.machine, drawn) if ranks.first else None)
        if before:
            again = timed_again(parts, before)
            if again:
                write_result(folder, again)
                if (folder / "report.md").is_file():
                    write_report(folder)
                seal(folder, KEPT)
            result = again or before
            hint = show_again(parts, folder, name, key, result, changed=bool(again)) if ranks.first else ""
            return Ran(result, folder, found=True, hint="\n".join(filter(None, [FOUND, hint])))
        if given and ranks.first:
            refuse_another(folder, key)
        say("\n".join([name, *heading(parts)]))
        if not ranks.first:
            train_all(parts, lambda row: None)
            return Ran(ranks.tell(), folder, found=False)  # when there is a result
        folder.mkdir(parents=True, exist_ok=True)
        for written in ("config.yaml", "result.json", "report.md", SIZES):  # we hold the lock: nobody is writing there
            for left_over in folder.glob(f".{written}.*"):
                left_over.unlink()
        (folder / UNFINISHED).touch()
        write_text(folder / "config.yaml", parts.written)
        with tracked(parts, folder, name, key) as tracker:
            trained = train_all(parts, tracker.log)
            large = settings["latency"]["batch"]
            with parts.clock("evaluate"), in_memory("evaluate", f"latency.batch={large}", "a smaller latency.batch"):
                merits = write_files(
                    folder, trained, parts.pictures, parts.machine, seed=settings["seed"], cost=cost_of(parts)
                )
            about = {"version": 1, "name": name, "key": key, "choices": dict(parts.choices), "command": command}
            about |= {"seed": settings["seed"], "settings": dict(flatten(settings)), "seconds": parts.clock.seconds()}
            result = about | merits
            write_result(folder, result)
            made = write_report(folder) if drawn else {}
            show_end(tracker, folder, result, {key: path for key, path in made.items() if path.suffix == ".png"})
        seal(folder, KEPT)
        (folder / UNFINISHED).unlink(missing_ok=True)
        ranks.tell(result)
    return Ran(result, folder, found=False, hint=f"{tracker.hint()}\nIt took {parts.clock}.")


def heading(parts: Parts) -> Iterator[str]:
    """What a run says of itself before it begins."""
    processes = f", {parts.ranks.size} processes" if parts.ranks.size > 1 else ""
    yield f"{len(parts.pictures.train):,} training images, {parts.machine}{processes}"
    counted = {
        key.replace("_", " "): note for key, note in parts.pictures.notes.items() if note and isinstance(note, int)
    }
    if counted:
        yield f"{', '.join(f'{key}: {note:,}' for key, note in counted.items())} (see the report)"


def train_all(parts: Parts, log: Callable[[dict[str, Any]], None]) -> dict[str, Trained]:
    """Teacher (or teachers), twin, assistants and student, each found in the store or trained."""
    clock, tasks, trained = parts.clock, parts.tasks, {}
    train = parts.settings["train"]
    how = {"ranks": parts.ranks, "compile": train["compile"], "minutes": train["checkpoint_minutes"]}
    how["pick_by"] = train["pick_by"]
    how["run"] = digest(parts.keys.run)
    sized = partial(in_memory, **of_training(train["batch_size"], train["pieces"]))

    def made(stage: str, task: Task, **more: Any) -> Trained:
        with clock(stage), sized(stage):
            return train_once(parts.store, task, parts.machine, log, **how, **more)

    teachers = [made(stage, task) for stage, task in tasks.items() if stage.startswith("teacher")]
    guide = combined(teachers, parts) if parts.together else teachers[0]
    trained["teacher"] = admitted("teacher", guide, parts)
    if "baseline" in tasks:
        trained["baseline"] = made("baseline", tasks["baseline"])
    for stage in parts.fresh:
        with clock(stage), sized(stage):
            task, teacher = lesson(parts, stage, guide)
        guide = trained[stage] = made(stage, task, teacher=teacher)
        if stage != "student":
            admitted(stage, guide, parts)
    return trained


def admitted(stage: str, guide: Trained, parts: Parts) -> Trained:
    """Return ``guide`` if it may teach.

    Raises:
        ValueError: it knows too little, where anybody learns from it; see ``kd.aptitude``. What it knows is seen on
            validation images. That it says one thing of everything is seen on those of the test, which were answered
            when it was trained; no label of theirs is looked at.
    """
    if parts.tasks["student"].objective.needs:
        refuse_constant(stage, guide.test_logits)
        settings = parts.settings
        if not settings["teacher"]["allow_weak"]:
            pictures, loader = parts.pictures, parts.tasks["student"].loader
            answers = partial(predict_together, guide.network, loader, pictures.val, parts.machine, parts.ranks)
            share, targets = guide.about["best_val_accuracy"], pictures.targets[pictures.val]
            balanced = settings["data"]["balance"] != "none" or settings["train"]["pick_by"] != "accuracy"
            refuse_weak(stage, share, targets, pictures.classes, answers, balanced)
    return guide


def combined(teachers: list[Trained], parts: Parts) -> Trained:
    """Several trained teachers as one."""
    task, machine = next(iter(parts.tasks.values())), parts.machine
    network = machine.prepare(parts.together([teacher.network for teacher in teachers])).eval()
    answers = [
        predict_together(network, task.loader, positions, machine, parts.ranks)
        for positions in (parts.pictures.val, parts.pictures.test)
    ]
    share = accuracy(answers[0], parts.pictures.targets[parts.pictures.val])
    about = {name: max(teacher.about[name] for teacher in teachers) for name in ("epochs", "best_epoch")}
    about |= {"best_val_accuracy": share, "last_val_accuracy": share}
    about |= {"seconds": sum(teacher.about["seconds"] for teacher in teachers)}
    about |= {"found": all(teacher.about["found"] for teacher in teachers)}
    return Trained(network, teachers[0].folder, about, answers[1])


def lesson(parts: Parts, stage: str, guide: Trained) -> tuple[Task, Callable[[], Teacher]]:
    """The task of a network that is taught, once its teacher is trained; and what makes that teacher answer."""
    task, machine = parts.tasks[stage], parts.machine
    live = LiveTeacher(guide.network, machine, task.objective.needs)
    torch.manual_seed(task.loader.seed)  # what a method adds to the student
    network = task.objective.enter(context(parts, stage, task.network, guide.network))

    def teacher() -> Teacher:
        bank, epochs = parts.banks[stage], task.recipe.epochs
        return parts.source(parts.store, bank, live, task.loader, epochs, parts.clock, parts.ranks)

    return replace(task, network=network), teacher


def context(parts: Parts, stage: str, student: nn.Module, teacher: nn.Module) -> Context:
    """What surrounds the training of one network that is taught."""
    machine, pictures = parts.machine, parts.pictures

    def see(network: nn.Module, image: Tensor, show: Set[str]) -> Outputs:
        with machine.autocast():
            return observe(network, image, show).full(show)

    return Context(
        student=student,
        teacher=teacher,
        fresh=lambda number: machine.prepare(parts.fresh[stage](number)),
        see=see,
        targets=torch.from_numpy(pictures.targets),
        train=torch.from_numpy(pictures.train),
        image_size=pictures.image_size,
    )


def rehearse(parts: Parts) -> None:
    """Let each method meet copies of its untrained networks, so that what it refuses is refused before any training.

    Raises:
        ValueError: what the method says.
    """
    members = [task.network for stage, task in parts.tasks.items() if stage.startswith("teacher")]
    guide = parts.together(members) if parts.together else members[0]
    for stage in parts.fresh:
        task = parts.tasks[stage]
        needs, size = task.objective.needs, parts.pictures.image_size
        objective, student, teacher = (copy.deepcopy(x).cpu() for x in (task.objective, task.network, guide))
        student = objective.enter(context(parts, stage, student, teacher.eval()))
        with torch.no_grad():
            shown = [
                observe(network, torch.rand(2, 3, size, size), needs).full(needs) for network in (student, teacher)
            ]
        objective.setup(*shown)
        guide = task.network


def show_again(parts: Parts, folder: Path, name: str, key: str, result: Mapping[str, Any], changed: bool) -> str:
    """Show W&B a run that was found, where that is new: its result has ``changed``, or a ``wandb agent`` asks for it
    under an id of its own. Return how to look at it."""
    tracker = tracked(parts, None, name, key)
    if not (tracker.agent or changed):
        return ""
    with tracker:
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            tracker.log(json.loads(line))
        show_end(tracker, folder, result, {path.stem: path for path in sorted((folder / "figures").glob("*.png"))})
    return tracker.hint()


def show_end(tracker: Tracker, folder: Path, result: Mapping[str, Any], figures: Mapping[str, Path]) -> None:
    """Show what a run ends with."""
    tables = {"teacher_vs_student": comparison_rows(result), "per_class": per_class_rows(result)}
    tracker.finish(result, figures, tables, artifacts={"student": folder / "student.safetensors"})


def tracked(parts: Parts, folder: Path | None, name: str, key: str) -> Tracker:
    """The run's tracker; teacher and twin are W&B runs of their own, once for all the runs that share them."""
    settings = parts.settings
    config = dict(flatten(settings)) | {f"choices.{group}": option for group, option in parts.choices.items()}
    about = {"root": parts.store.root, "run_id": key[: 2 * SHORT], "config": config, "name": name}
    tracker = Tracker(folder, **about, job_type="distill", agent=find_agent(), **settings["tracking"])
    for stage in {"teacher", "baseline"} & parts.tasks.keys():
        own = digest(parts.tasks[stage].settings)
        tracker.sibling(stage, run_id=own[: 2 * SHORT], name=f"{parts.choices['data']}-{stage}-{own[:SHORT]}")
    return tracker


def timed_again(parts: Parts, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """A finished run's result with new times, where its networks were timed on a busy machine and could be timed now.

    None where nothing is to be done, or the machine is still busy.
    """
    if parts.machine.describe()["threads"] != result["machine"]["threads"]:
        return None  # that would be another latency, of a run that does not say so
    roles = [role for role in LABEL if result.get(role)]
    kept = all(parts.store.path(task.kind, digest(task.settings)[:SHORT]).is_dir() for task in parts.tasks.values())
    if all(is_calm(result[role]) for role in roles) or not kept or parts.ranks.size > 1:
        return None
    say(f"{result['name']}: its latencies are not known to be of a calm machine, and are taken again")
    try:
        networks, cost = train_all(parts, lambda row: None), cost_of(parts)
        costs = {role: cost(role, networks[role].network) for role in roles}
    except (OSError, ValueError) as error:  # a full disk, a teacher that would be refused today: the run is there yet
        say(f"they could not be: {first_line(error)}")
        return None
    return with_costs(result, costs) if all(map(is_calm, costs.values())) else None


def cost_of(parts: Parts) -> Callable[[str, Any], dict[str, Any]]:
    """What the networks of the run cost, measured once for each architecture."""

    def architecture(key: Mapping[str, Any]) -> dict[str, Any]:
        return {name: key[name] for name in ("network", "attention", "checkpoint") if name in key}

    teachers = [architecture(key) for key in parts.keys.members]
    teacher = {"ensemble": teachers} if parts.together else teachers[0]

    def cost(role: str, network: Any) -> dict[str, Any]:
        whole = teacher if role == "teacher" else {"network": parts.settings["student"]}
        if role == "student" and parts.tasks[role].objective.extends:
            guides = [architecture(key) for key in parts.keys.assistants] or [teacher]
            whole = {**whole, "taught by": guides[-1], "objective": parts.keys.student["objective"]}
        whole = {**whole, "classes": len(parts.pictures.classes)}
        unused = parts.unused if role == "teacher" else 0
        size, latency = parts.pictures.image_size, parts.settings["latency"]
        return costs_once(parts.store, whole, network, size, parts.machine, published_extra=unused, **latency)

    return cost
