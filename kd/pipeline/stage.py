"""One trained network: reused from the store, or trained and published there, with its history and test logits."""

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

from kd.data.loader import Loader
from kd.evaluation.cost import state_of
from kd.evaluation.metrics import accuracy
from kd.evaluation.predict import predict_distributed
from kd.interfaces import Teacher
from kd.models.weights import load_weights
from kd.runtime.console import print_line
from kd.runtime.device import Device
from kd.runtime.distributed import SINGLE_PROCESS, World
from kd.store.distributed import get_or_create_together
from kd.store.files import find_damage
from kd.store.store import KEY_DIGITS, Store, digest
from kd.train.checkpoint import CheckpointFolder
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class StageSpec:
    """One network of a run, and all that its training needs."""

    role: str  # teacher (or teacher_1, ...), baseline, assistant_1, ..., student
    kind: str  # folder of the store: teachers or students
    key: dict[str, Any]  # settings that determine the trained network
    network: nn.Module  # initialised
    objective: Objective
    recipe: Recipe
    loader: Loader
    taught_by: str | None = None  # the role of its teacher; None without one
    is_trained: bool = False  # the network came with weights: it is only evaluated

    @property
    def has_method(self) -> bool:
        """Whether the chosen method trains it: the student, and assistants."""
        return self.role == "student" or self.role.startswith("assistant")

    @property
    def name(self) -> str:
        """The name of the network's folder in the store."""
        return digest(self.key)[:KEY_DIGITS]


@dataclass(frozen=True)
class TrainedModel:
    """A network in eval mode, with the weights of the epoch that validation picked."""

    network: nn.Module
    folder: Path
    training: dict[str, Any]  # the result of ``fit``, and whether the network was cached
    test_logits: np.ndarray  # float32 [N_test, K]


def is_cached(store: Store, spec: StageSpec, world: World) -> bool:
    """Whether the network of ``spec`` is in the store, undamaged; the same answer on all processes."""
    return world.broadcast(not find_damage(store.path(spec.kind, spec.name)) if world.is_main else None)


def get_or_train(
    store: Store,
    spec: StageSpec,
    device: Device,
    log: Log,
    *,
    teacher: Teacher | None = None,
    world: World = SINGLE_PROCESS,
    compile: bool = False,
    pick_by: str = "accuracy",
    checkpoint_minutes: float = 10.0,
    measure_gradients: bool = True,
    run: str | None = None,
) -> TrainedModel:
    """Return the network of ``spec`` from the store; train and publish it if it is not there.

    Args:
        log: gets the history, old or new. teacher: needed if a term reads it and the network is not cached.
        world: the processes that train together; all return the network that the main process published.
        checkpoint_minutes: between two checkpoints. measure_gradients: as of ``fit``.
        run: key of the calling run. A network that the same run trained before it was killed does not count as cached.
    """
    cached, rows = True, []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        log(row)

    def make(folder: Path) -> None:
        nonlocal cached
        cached = False
        if spec.is_trained:
            training = _validate(spec, device, world)
        else:
            origin = getattr(getattr(spec.network, "network", None), "weights_from", None)
            if origin:
                print_line(f"{spec.role}: {origin}")
            training = fit(
                spec.network,
                spec.objective,
                spec.loader,
                spec.recipe,
                device,
                stage=spec.role,
                teacher=teacher,
                world=world,
                compile=compile,
                pick_by=pick_by,
                checkpoints=CheckpointFolder(store.partial_dir(spec.kind, spec.name), checkpoint_minutes),
                log=note,
                measure_gradients=measure_gradients,
            )
        write_stage(folder, spec, {**training, "run": run}, rows, device, world)

    folder = get_or_create_together(world, store, spec.kind, spec.name, make)
    network = spec.objective.deploy(spec.network)
    if cached or not world.is_main:
        load_weights(network, folder / "network.safetensors")
    if cached:
        for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines():
            log({**json.loads(line), "stage": spec.role})
    training = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    made_by = training.pop("run", None)
    return TrainedModel(
        network=device.to_device(network).eval(),
        folder=folder,
        training={**training, "found": cached and (run is None or made_by != run)},
        test_logits=np.load(folder / "test_logits.npy"),
    )


def write_stage(
    folder: Path,
    spec: StageSpec,
    about: dict[str, Any],
    rows: list[dict[str, Any]],
    device: Device,
    world: World = SINGLE_PROCESS,
) -> None:
    """Write the files of a trained network, as it is deployed; all processes compute its test logits.

    Args:
        about: the result of its training, and the key of the run under "run". rows: its history.
    """
    network = spec.objective.deploy(spec.network)
    test_logits = predict_distributed(network, spec.loader, spec.loader.dataset.test, device, world)
    # arrays and weights are written as bytes: np.save and save_file replace the error of a full disk by their own
    np.save(logits := io.BytesIO(), test_logits)
    (folder / "test_logits.npy").write_bytes(logits.getvalue())
    (folder / "network.safetensors").write_bytes(safetensors.torch.save(state_of(network)))
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(spec.key, indent=1, sort_keys=True), encoding="utf-8")


def _validate(spec: StageSpec, device: Device, world: World) -> dict[str, Any]:
    """Return a result like that of ``fit``, for a network that is not trained here."""
    dataset = spec.loader.dataset
    logits = predict_distributed(device.to_device(spec.network), spec.loader, dataset.val, device, world)
    share = accuracy(logits, dataset.targets[dataset.val])
    return {"epochs": 0, "best_epoch": 0, "best_val_accuracy": share, "last_val_accuracy": share, "seconds": 0.0}
