"""Train once, find again: a network with its history and its one look at the test split, under one key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from kd.data.loader import Loader
from kd.evaluate import accuracy
from kd.interfaces import Teacher, first_line
from kd.machine import Machine
from kd.measure import state_of
from kd.objective import Objective
from kd.parallel import ALONE, Ranks
from kd.store import SHORT, Store, digest
from kd.train import Recipe, fit, predict_together

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
    about: dict[str, Any]  # epochs, best_epoch, best_val_accuracy, last_val_accuracy, seconds, found
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
) -> Trained:
    """Return the network of ``task``: found in the store, else trained and published there.

    Args:
        teacher: makes the teacher, when there is something to train. log: gets the history, old or new.
        ranks: who trains it together; all end with what the first published.
    """
    found = True

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
                log=note,
            )
        test = predict_together(task.network, task.loader, task.loader.pictures.test, machine, ranks)
        np.save(folder / "test_logits.npy", test)
        safetensors.torch.save_file(state_of(task.network), folder / "network.safetensors")
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        (folder / "settings.json").write_text(json.dumps(task.settings, indent=1, sort_keys=True), encoding="utf-8")

    folder = ranks.obtain(store, task.kind, digest(task.settings)[:SHORT], make)
    if found or not ranks.first:
        load_weights(task.network, folder / "network.safetensors")
    if found:
        for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines():
            log({**json.loads(line), "stage": task.stage})
    return Trained(
        network=machine.prepare(task.network).eval(),
        folder=folder,
        about={**json.loads((folder / "about.json").read_text(encoding="utf-8")), "found": found},
        test_logits=np.load(folder / "test_logits.npy"),
    )


def _tested(task: Task, machine: Machine, ranks: Ranks) -> dict[str, Any]:
    """What stands in for the account of a training."""
    pictures = task.loader.pictures
    logits = predict_together(machine.prepare(task.network), task.loader, pictures.val, machine, ranks)
    share = accuracy(logits, pictures.targets[pictures.val])
    return {"epochs": 0, "best_epoch": 0, "best_val_accuracy": share, "last_val_accuracy": share, "seconds": 0.0}


def take(network: nn.Module, path: Path) -> None:
    """Give a ``Normalized`` the weights of a file from elsewhere.

    Raises:
        FileNotFoundError: no such file. ValueError: not a checkpoint, or one of another network: what differs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if hasattr(network.network, "read"):  # a network that is itself a file
        network.network.read(path)
    elif path.suffix == ".pt2":
        raise ValueError(f"{path} is a program, not weights: say teacher=exported teacher.checkpoint={path}")
    else:
        load_weights(network, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a .safetensors or a torch file (weights only: nothing in it is ever executed) into a ``Normalized``.

    Names may stand with or without the leading ``network.``, or behind ``module.`` as DataParallel writes them; a file
    without statistics of the input leaves those of the data in place.

    Raises:
        ValueError: not a checkpoint, or one of another network: what differs.
    """
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict):
                state = state.get("state_dict", state.get("model", state))
    except Exception as error:
        said = first_line(error).partition(". ")[0]  # torch goes on to advise what is unsafe
        raise ValueError(
            f"{path} is not a readable .safetensors or weights-only torch file: {said}\n"
            "Whatever else than tensors a checkpoint holds is not opened: save the network's state_dict() alone."
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ValueError(f"{path} holds no state dict: tensors by name, alone or under state_dict or model")
    own = network.state_dict()
    state = {name.removeprefix("module."): value for name, value in state.items()}
    if not any(name.startswith("network.") for name in state):
        state = {f"network.{name}": value for name, value in state.items()}
    state = {"mean": own["mean"], "std": own["std"], **state}
    wrong = [f"{name} is missing" for name in sorted(set(own) - set(state))]
    wrong += [f"{name} is not known" for name in sorted(set(state) - set(own))]
    wrong += [
        f"{name} is {tuple(state[name].shape)} and should be {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if wrong:
        few = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise ValueError(f"{path.name} holds the weights of another network: {few}")
    network.load_state_dict(state)
