"""The same job by this framework: ``kd.train.loop.fit`` with its loader, recipe and objective, as a run calls it."""

from __future__ import annotations

import copy
import io
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.bench.job import Job
from kd.bench.parts import Parts
from kd.bench.setting import Setup
from kd.bench.torch_state import own_torch_state
from kd.data.loader import Loader
from kd.interfaces import Teacher
from kd.runtime.device import Device, resolve_device
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache
from kd.train.checkpoint import CheckpointFolder
from kd.train.loop import fit


class Ours(Job):
    """This framework with a live teacher or with cached logits.

    Args:
        wanted: ``train.precision``.
    """

    def __init__(self, setup: Setup, plain: dict[str, object], wanted: str = "auto", source: str = "live"):
        super().__init__(setup, plain)
        self.wanted, self.source = wanted, source
        self.name = source if wanted == "auto" else f"{source} {wanted}"
        self.folder = Path(setup.setting.folder)
        self.cache: Teacher | None = None
        with own_torch_state(plain):
            self.precision = self.device().describe()["precision"]

    @property
    def uses_teacher(self) -> bool:
        return self.source == "live"

    def device(self) -> Device:
        """Return the device, and set torch up as a run does."""
        train = self.setup.plan.settings["train"]
        return resolve_device(train["device"], self.wanted, train["channels_last"], train["threads"])

    def loader(self, device: Device) -> Loader:
        stage = self.setup.plan.stages["student"]
        batch, seed = self.setup.setting.batch_size, stage.loader.seed
        own = Loader(self.setup.dataset, batch, seed, device.device, augment=stage.loader.chain.steps)
        return own.with_seed(*stage.loader.stream)

    def live_teacher(self, device: Device) -> LiveTeacher:
        return LiveTeacher(copy.deepcopy(self.setup.teacher), device, self.setup.plan.stages["student"].objective.needs)

    def prepare(self) -> dict[str, float]:
        """Fill the logit cache, if this job reads one: of every view of the epochs of one call."""
        if self.source == "live":
            return {}
        with own_torch_state(self.plain), redirect_stdout(io.StringIO()):
            device, epochs = self.device(), self.setup.setting.epochs
            live, loader = self.live_teacher(device), self.loader(device)
            began = time.perf_counter()
            key = {"bench": self.precision, "shape": [epochs, *self.setup.dataset.images.shape], "n": loader.steps}
            self.cache = open_cache(Store(self.folder / "outputs"), key, live, loader, epochs, Timer())
            device.synchronize()
            return {"logit_cache": time.perf_counter() - began}

    def refresh(self) -> None:
        device, stage = self.device(), self.setup.plan.stages["student"]
        self.teacher = self.live_teacher(device) if self.source == "live" else self.cache
        self.student, self.objective = copy.deepcopy(self.setup.student), copy.deepcopy(stage.objective)
        self.recipe = replace(stage.recipe, epochs=self.setup.setting.epochs)
        self.own_device, self.own_loader = device, self.loader(device)

    def train(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, redirect_stdout(io.StringIO()):
            self.result = fit(
                self.student,
                self.objective,
                self.own_loader,
                self.recipe,
                self.own_device,
                stage="student",
                teacher=self.teacher,
                checkpoints=CheckpointFolder(Path(folder)),
                log=self.log,
            )

    def log(self, row: dict[str, Any]) -> None:
        self.train_loss, self.val_accuracy = row["loss"], row["val_accuracy"]

    def watch(self, parts: Parts) -> None:
        if self.source == "live":
            self.teacher = parts.timed("teacher", self.teacher)
        else:
            self.teacher = parts.timed("data", self.teacher)  # a look-up of logits
        parts.on_calls("student forward", self.student, "forward_intermediates", "forward_head")
        loader = copy.copy(self.own_loader)
        loader.epoch = parts.iterated("data", loader.epoch)
        loader.eval_batches = parts.whole("validation", loader.eval_batches)
        self.own_loader = loader
