"""Train once, find again: a network with its history and its one look at the test split, under one key."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import nn

from kd.checkpoint import Checkpoints
from kd.data.loader import Loader
from kd.evaluate import accuracy
from kd.interfaces import Teacher
from kd.machine import Machine
from kd.measure import state_of
from kd.objective import Objective
from kd.parallel import ALONE, Ranks
from kd.store import SHORT, Store, digest
from kd.train import Recipe, fit, predict_together
from kd.weights import load_weights

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """One network to be had, and everything that its training takes."""

    stage: str  # teacher, baseline or student: the name in logs
    kind: str  # the store's folder
    settings: dict[str, Any]  # what determines it: its key is made of these
    network: nn.Module  # initialised
    objective: Objective
    recipe: Recipe
    loader: Loader
    given: bool = False  # the network came with its weights: it is not trained


@dataclass(frozen=True)
class Trained:
    """A network with the weights that validation picked, in eval mode, and what was written down of it."""

    network: nn.Module
    folder: Path
    about: dict[str, Any]  # what ``fit`` returned, and whether it was found
    test_logits: np.ndarray  # float32 [N_test, K]


def train_once(
    store: Store,
    task: Task,
    machine: Machine,
    log: Log,
    *,
    teacher: Callable[[], Teacher] | None = None,
    ranks: Ranks = ALONE,
    compile: bool = False,
    pick_by: str = "accuracy",
    minutes: float = 10.0,
    run: str | None = None,
) -> Trained:
    """Return the network of ``task``: found in the store, else trained and published there.

    Args:
        teacher: makes the teacher, when there is something to train. log: gets the history, old or new.
        ranks: who trains it together; all end with what the first published. minutes: between two checkpoints.
        run: key of who asks. What the same run trained before it was killed is not "found".
    """
    found, name = True, digest(task.settings)[:SHORT]

    def make(folder: Path) -> None:
        nonlocal found
        found = False
        rows: list[dict[str, Any]] = []

        def note(row: dict[str, Any]) -> None:
            rows.append(row)
            log(row)

        if task.given:
            about = _tested(task, machine, ranks)
        else:
            asked = teacher() if teacher and task.objective.needs else None
            about = fit(
                task.network,
                task.objective,
                task.loader,
                task.recipe,
                machine,
                stage=task.stage,
                teacher=asked,
                ranks=ranks,
                compile=compile,
                pick_by=pick_by,
                checkpoints=Checkpoints(store.unfinished(task.kind, name), minutes),
                log=note,
            )
        test = predict_together(task.network, task.loader, task.loader.pictures.test, machine, ranks)
        # both as bytes: np.save and save_file would make errors of their own of a full disk's
        np.save(logits := io.BytesIO(), test)
        (folder / "test_logits.npy").write_bytes(logits.getvalue())
        (folder / "network.safetensors").write_bytes(safetensors.torch.save(state_of(task.network)))
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / "about.json").write_text(json.dumps({**about, "run": run}, indent=1), encoding="utf-8")
        (folder / "settings.json").write_text(json.dumps(task.settings, indent=1, sort_keys=True), encoding="utf-8")

    folder = ranks.obtain(store, task.kind, name, make)
    if found or not ranks.first:
        load_weights(task.network, folder / "network.safetensors")
    if found:
        for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines():
            log({**json.loads(line), "stage": task.stage})
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    by = about.pop("run", None)
    return Trained(
        network=machine.prepare(task.network).eval(),
        folder=folder,
        about={**about, "found": found and (run is None or by != run)},
        test_logits=np.load(folder / "test_logits.npy"),
    )


def _tested(task: Task, machine: Machine, ranks: Ranks) -> dict[str, Any]:
    """What stands in for the account of a training."""
    pictures = task.loader.pictures
    logits = predict_together(machine.prepare(task.network), task.loader, pictures.val, machine, ranks)
    share = accuracy(logits, pictures.targets[pictures.val])
    return {"epochs": 0, "best_epoch": 0, "best_val_accuracy": share, "last_val_accuracy": share, "seconds": 0.0}
