"""One network in training: the steps of an epoch, its end, and the checkpoints between them.

``kd.train.loop.fit`` runs one such training from start to end, ``kd.train.together.fit_together`` several in lock-step.
Both call the same methods in the same order, so that each step exists once.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from kd.data.loader import Loader
from kd.evaluation.metrics import PICKS, accuracy, nll
from kd.evaluation.predict import predict_distributed
from kd.interfaces import Batch, Outputs, Teacher, extract_outputs
from kd.runtime.console import Progress
from kd.runtime.device import Device
from kd.runtime.distributed import SINGLE_PROCESS, World
from kd.runtime.rng import random_states, restore_random_states
from kd.train.apart import Backward, BackwardApart, keeps_apart
from kd.train.checkpoint import CheckpointFolder
from kd.train.ema import ModelEma
from kd.train.finite import check_due, check_finite, check_logits
from kd.train.layers import Trunk
from kd.train.meter import Ahead, Meter
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.resume import CheckpointManager
from kd.train.schedules import warmup_cosine
from kd.train.state import TrainState, compacted
from kd.train.step import TrainStep


class Training:
    """A network, its objective, optimizer and log, at a position of its training.

    Args:
        together: other trainings of this process take steps in between: this one keeps its own random states, and
            prints nothing of its epochs. Others: see ``kd.train.loop.fit``.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        loader: Loader,
        recipe: Recipe,
        device: Device,
        *,
        stage: str,
        teacher: Teacher | None = None,
        world: World = SINGLE_PROCESS,
        compile: bool = False,
        pick_by: str = "accuracy",
        checkpoints: CheckpointFolder | None = None,
        log: Callable[[dict[str, Any]], None] = lambda row: None,
        together: bool = False,
        measure_gradients: bool = True,
    ):
        began = time.perf_counter()
        self.network, self.objective, self.loader, self.recipe = network, objective, loader, recipe
        self.device, self.stage, self.teacher, self.world = device, stage, teacher, world
        self.pick_by, self.log = pick_by, log
        torch.manual_seed(loader.seed)  # for the adapters; the caller initialised the network
        device.to_device(network).train()
        first = next(loader.epoch(1))
        rows = {name: getattr(first, name)[:2] for name in ("image", "target", "index")}
        two_images = first._replace(**rows, views=1, label_blocks=None)
        needs = objective.student_needs
        with torch.no_grad(), device.autocast():
            # on a copy: the statistics of batch norm must not change
            example = extract_outputs(copy.deepcopy(network), two_images.image, needs).to_float32(needs)
        objective.setup(example, self.answer(two_images))
        objective.to(device.device).train()
        torch.manual_seed(loader.seed + 1_000_003 * world.rank)  # for dropout: the same for every objective
        apart = keeps_apart(recipe, objective)
        self.train_step = step = TrainStep(network, objective, device, compile, apart)
        self.ddp = world.wrap_synced(step) if apart else world.wrap_ddp(step)
        self.optimizer = recipe.optimizer_of(step)
        self.backward = BackwardApart(step, self.optimizer, world) if apart else Backward(step)
        self.trunk = Trunk(self.train_step) if recipe.freeze_epochs else None
        self.averaged = ModelEma(network, recipe.ema) if recipe.ema else None
        self.evaluated = self.averaged.network if self.averaged else network
        self.state = TrainState(self.train_step, self.optimizer, self.averaged, world)
        self.manager = CheckpointManager(self.state, checkpoints, stage, loader.steps, began)
        self.manager.resume(loader.seed)
        self.state.random = random_states(device.device) if together else None
        for row in self.state.rows:
            log({**row, "stage": stage})

        # The objective returns the mean over this process's slice of a micro-batch, and these shares weight its
        # gradient. DDP averages over processes and backward() adds over micro-batches: together the gradient of the
        # batch's mean.
        self.shares = [
            torch.tensor(world.shard_weight(n) * n / loader.batch_size, device=device.device) for n in loader.sizes
        ]
        is_wanted = measure_gradients and (teacher is not None or len(objective.terms) > 1)
        self.meter = Meter(self.train_step, self.state, loader.steps, recipe.epochs, stage, is_wanted)
        self.names = ["loss", *objective.terms, "train_accuracy"]
        self.progress = Progress(stage, recipe.epochs, loader.steps, self.state.epoch - 1, self.state.step, together)

    @property
    def is_over(self) -> bool:
        return self.state.epoch > self.recipe.epochs

    @property
    def position(self) -> tuple[int, int]:
        """The current epoch, and the finished steps of it."""
        return self.state.epoch, self.state.step

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Inside the block the process's random generators are in the states of this training."""
        device = self.device.device
        if self.state.random is None:
            yield
            return
        restore_random_states(self.state.random, device)
        self.state.random = None
        try:
            yield
        finally:
            self.state.random = random_states(device)

    def answer(self, batch: Batch) -> Outputs | None:
        """Return what the teacher says about a batch; None without a teacher."""
        return self.teacher(batch).to_float32(self.objective.needs) if self.teacher else None

    def share_done(self, step: int) -> float:
        """Return the share of the training that is done in the middle of a step of the current epoch."""
        return (self.state.epoch - 1 + (step + 0.5) / self.loader.steps) / self.recipe.epochs

    def train_epoch(self, stop: int | None = None) -> None:
        """Train to the end of the current epoch, or until ``stop`` steps of it are finished.

        Raises:
            NonFiniteLoss, KeyboardInterrupt: as ``kd.train.loop.fit``.
        """
        self.begin_epoch()
        micro_batches = self.loader.epoch(self.state.epoch, self.world.shard, self.state.step)
        parts = Ahead((batch, self.answer(batch)) for batch in micro_batches)
        self.meter.begin(parts.look_ahead)
        for step in range(self.state.step, self.loader.steps if stop is None else stop):
            done = self.share_done(step)
            self.begin_step(done)
            for number in range(self.loader.grad_accum_steps):
                batch, answer = next(parts)
                batch = batch._replace(progress=done)
                if self.meter.is_due(number):
                    self.meter.look(batch, answer)
                self.learn(batch, answer, number)
            self.end_step(step)
            self.manager.on_step_end()
        if stop is None:
            self.end_epoch()

    def begin_epoch(self) -> bool:
        """Freeze what this epoch does not train; return whether other parameters learn from here on."""
        self.network.train()
        changed = self.trunk is not None and self.trunk.freeze(self.state.epoch <= self.recipe.freeze_epochs)
        if changed and self.world.size > 1:
            self.ddp.renew()
        return changed

    def begin_step(self, done: float) -> None:
        """Set the learning rate of a step."""
        self.rate = self.recipe.lr * warmup_cosine(done, self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("lr_scale", 1.0)
        self.manager.on_step_start()

    def learn(self, batch: Batch, answer: Outputs | None, number: int) -> None:
        """Add the gradients of one micro-batch; ``number`` counts those of a step from 0."""
        if number == 0:
            self.optimizer.zero_grad(set_to_none=True)
        last = number + 1 == len(self.shares)
        no_sync = nullcontext() if last else self.world.no_sync(self.ddp)
        with self.device.turns(), no_sync:
            loss, numbers = self.ddp(batch, answer)
            self.backward.add(loss, self.shares[number], number, last)
        self.record(self.shares[number] * numbers, number)

    def record(self, numbers: Tensor, number: int) -> None:
        """Add the results of one micro-batch, weighted by its share, to the log of this epoch."""
        self.state.record_step(self.rate, numbers, new=number == 0)

    def end_step(self, step: int) -> None:
        """Take the step with the gradients that are there.

        Raises:
            NonFiniteLoss: as ``check_finite``, every hundred steps.
        """
        self.clip()
        self.optimizer.step()
        self.after_step(step)

    def clip(self) -> None:
        """Clip the gradients, if the recipe says so."""
        if self.recipe.clip_norm:
            self.backward.clip(self.recipe.clip_norm)

    def after_step(self, step: int) -> None:
        """Do what follows the optimizer's step; raises as ``end_step``."""
        if self.averaged:
            self.averaged.update(self.network)
        self.progress.step(self.loader.batch_size)
        if check_due(step + 1):
            self.check_finite()

    def check_finite(self) -> Tensor:
        return check_finite(self.state, self.names, self.stage, self._replay)

    def _replay(self, step: int) -> Iterator[tuple[Batch, Outputs | None]]:
        batches = self.loader.epoch(self.state.epoch, self.world.shard, step)
        for batch in islice(batches, self.loader.grad_accum_steps):
            yield batch, self.teacher(batch).to_float32(frozenset()) if self.teacher else None

    def end_epoch(self) -> None:
        """Validate, keep the weights if they are the best, write a checkpoint and the row of the log.

        Raises:
            NonFiniteLoss: a loss of this epoch or a validation logit is not finite.
            KeyboardInterrupt: the process received a signal.
        """
        state, epoch, picked, loader = self.state, self.state.epoch, f"val_{self.pick_by}", self.loader
        positions, targets = loader.dataset.val, loader.dataset.targets[loader.dataset.val]
        row = dict(zip(self.names, self.check_finite().mean(0).tolist(), strict=True))
        logits = predict_distributed(self.evaluated, loader, positions, self.device, self.world)
        check_logits(logits, self.stage, epoch)
        row |= {"val_accuracy": accuracy(logits, targets), "val_loss": nll(logits, targets)}
        row[picked] = PICKS[self.pick_by](logits, targets)
        row |= {"lr": state.rates[-1], **self.progress.rate(), **self.meter.rows()}
        row = {"stage": self.stage, "epoch": epoch, **row}
        if row[picked] >= state.best.get(picked, -1.0):  # among equal epochs the latest: it has seen more images
            best = copy.deepcopy(compacted(self.evaluated.state_dict()))
            scores = {name: row[name] for name in ("val_accuracy", picked)}
            state.best = {**scores, "epoch": epoch, "state": best}
        self.manager.on_epoch_end(row)
        self.log(row)
        scores = f"loss {row['loss']:.3f}  val {100 * row[picked]:.1f} %"
        self.progress.on_epoch_end(scores, row["images_per_s"])

    def finish(self) -> dict[str, Any]:
        """Load the weights of the best epoch, and return the result of ``fit``."""
        self.progress.close()
        state, picked = self.state, f"val_{self.pick_by}"
        self.network.load_state_dict(state.best["state"])
        self.network.eval()
        return {
            "epochs": self.recipe.epochs,
            "best_epoch": state.best["epoch"],
            "picked_by": self.pick_by,
            **{f"best_{name}": state.best[name] for name in ("val_accuracy", picked)},
            **{f"last_{name}": state.rows[-1][name] for name in ("val_accuracy", picked)},
            "seconds": self.manager.seconds(),
            **self._balanced_weights(),
        }

    def _balanced_weights(self) -> dict[str, Any]:
        """Return the weights of all terms as they were in effect, if the start chose some of them."""
        terms = self.objective.terms if self.objective.balance else ()
        return {"weights": {name: float(self.objective.full_weight(name)) for name in terms}} if terms else {}
