"""The loop: one network, one objective, one recipe; with a teacher or without."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kd.checkpoint import Checkpoints
from kd.data.loader import Loader
from kd.divergence import is_due, verify, verify_logits
from kd.evaluate import PICKS, accuracy, nll, predict
from kd.interfaces import Batch, Outputs, Teacher, first_line, observe
from kd.machine import Machine
from kd.objective import Objective
from kd.parallel import ALONE, Ranks
from kd.progress import Progress
from kd.runtime.text import did_you_mean
from kd.schedules import warmup_cosine
from kd.standing import Keeper, Standing

COMMON = ("adamw", "sgd", "momentum", "adam")  # timm has these: known without its import, which takes seconds


@dataclass(frozen=True)
class Recipe:
    """How long and with which optimiser a network is trained. ``conf/train/default.yaml`` says why."""

    epochs: int
    optimizer: str = "adamw"  # any name that timm.optim knows; bias and norm weights are not decayed
    lr: float = 1e-3  # at the top of the schedule
    weight_decay: float = 0.05
    momentum: float = 0.9  # for those that have one
    warmup: float = 0.1  # share of the steps that rise to lr; half a cosine to 0 follows
    label_smoothing: float = 0.0
    mixup: float = 0.0  # probability of mixing another training image into a view
    clip_norm: float | None = None  # of the whole gradient
    ema: float | None = None  # decay of the averaged weights a step, e.g. 0.998; they are what is kept

    def __post_init__(self):
        for name, good, right in (
            ("epochs", self.epochs >= 1, "1 or more"),
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("mixup", 0 <= self.mixup <= 1, "in [0, 1]"),
            ("ema", self.ema is None or 0 < self.ema < 1, "in (0, 1), or null"),
            ("clip_norm", self.clip_norm is None or 0 < self.clip_norm < math.inf, "above 0, or null"),
        ):
            if not good:
                raise ValueError(f"{name} must be {right}, got {getattr(self, name)}")
        if self.optimizer not in COMMON:
            from timm.optim import list_optimizers

            if self.optimizer not in list_optimizers():
                hint = did_you_mean(self.optimizer, list_optimizers())
                raise ValueError(f"timm has no optimizer {self.optimizer!r}{hint}")
            self._try()

    def _try(self) -> None:
        """Take a step: of timm's optimisers some want second derivatives, others packages that are not here."""
        weight = nn.Linear(1, 1)
        try:
            optimizer = self.optimizer_of(weight)
            weight(torch.ones(1, 1)).sum().backward()
            optimizer.step()
        except Exception as error:
            raise ValueError(f"optimizer {self.optimizer!r} does not work here: {first_line(error)}") from error

    def optimizer_of(self, learned: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of all parameters; the fused kernel where it has one (half the time of a step of AdamW)."""
        from timm.optim import create_optimizer_v2, get_optimizer_class

        fused = "fused" in inspect.signature(get_optimizer_class(self.optimizer, bind_defaults=False)).parameters
        return create_optimizer_v2(
            learned,
            opt=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            **({"fused": True} if fused else {}),
        )


def fit(
    network: nn.Module,
    objective: Objective,
    loader: Loader,
    recipe: Recipe,
    machine: Machine,
    *,
    stage: str,
    teacher: Teacher | None = None,
    ranks: Ranks = ALONE,
    compile: bool = False,
    pick_by: str = "accuracy",
    checkpoints: Checkpoints | None = None,
    log: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train ``network`` in place; it ends with the weights of the epoch that validation picks.

    Args:
        network: takes [B, 3, H, W] in [0, 1]. teacher: answers each batch, in eval mode and without gradients.
        stage: names the rows of the log and the progress bar.
        ranks: who takes which slice of each batch. All end with the same weights; all get the log.
        pick_by: the measure on validation images that picks the epoch, of ``kd.evaluate.PICKS``; of equals the later.
        checkpoints: where it goes on from, and what it leaves for the next who does.
        log: gets one row an epoch, see ``metrics.jsonl`` in the README; of an earlier part of the training, too.

    Returns:
        ``{"epochs", "best_epoch", "picked_by", "best_val_accuracy", "last_val_accuracy", "seconds"}``: accuracies at
        the epoch that was picked and at the last one, and the same of ``pick_by``, as "best_val_macro_f1".

    Raises:
        Diverged: with term, epoch, step and learning rate, when the loss is not finite.
        KeyboardInterrupt: asked to stop, behind a checkpoint.
    """
    began = time.perf_counter()
    torch.manual_seed(loader.seed)  # the adapters'; the initial weights of the network are the caller's
    machine.prepare(network).train()
    first = next(loader.epoch(1))
    pair = first._replace(image=first.image[:2], target=first.target[:2], index=first.index[:2])
    with torch.no_grad(), machine.autocast():
        # of a copy: batch norm must not see it
        example = observe(copy.deepcopy(network), pair.image, objective.needs).full(objective.needs)
    answer = teacher(pair).full(objective.needs) if teacher else None
    objective.setup(example, answer)
    objective.to(machine.device).train()
    torch.manual_seed(loader.seed + 1_000_003 * ranks.rank)  # dropout's: the same for every objective
    learned = Step(network, objective, machine, compile)
    together = ranks.wrap(learned)
    optimizer = recipe.optimizer_of(learned)
    averaged = Average(network, recipe.ema) if recipe.ema else None
    kept = averaged.network if averaged else network
    stand = Standing(learned, optimizer, averaged, ranks)
    keeper = Keeper(stand, checkpoints, stage, loader.steps, began)
    keeper.go_on(loader.seed)
    for row in stand.rows:
        log({**row, "stage": stage})

    # the mean over processes of means over slices, and the sum over pieces, are the mean over the batch
    shares = [torch.tensor(ranks.share(n) * n / loader.batch_size, device=machine.device) for n in loader.sizes]
    positions, targets = loader.pictures.val, loader.pictures.targets[loader.pictures.val]
    names = ["loss", *objective.terms, "train_accuracy"]
    picked = f"val_{pick_by}"
    progress = Progress(stage, recipe.epochs, loader.steps, stand.epoch - 1, stand.step)

    def again(step: int) -> Iterator[tuple[Batch, Outputs | None]]:
        for batch in islice(loader.epoch(stand.epoch, ranks.part, step), loader.pieces):
            yield batch, teacher(batch).full(frozenset()) if teacher else None

    with keeper.watch():
        for epoch in range(stand.epoch, recipe.epochs + 1):
            network.train()
            pieces = loader.epoch(epoch, ranks.part, stand.step)
            for step in range(stand.step, loader.steps):
                done = (epoch - 1 + (step + 0.5) / loader.steps) / recipe.epochs
                rate = recipe.lr * warmup_cosine(done, recipe.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                keeper.step_begins()
                for left, share in zip(range(loader.pieces, 0, -1), shares, strict=True):
                    batch = next(pieces)._replace(progress=done)
                    answer = teacher(batch).full(objective.needs) if teacher else None
                    with ranks.hold(together) if left > 1 else nullcontext():
                        loss, numbers = together(batch, answer)
                        loss.backward(share)
                    stand.add(rate, share * numbers, new=left == loader.pieces)
                if recipe.clip_norm:
                    nn.utils.clip_grad_norm_(learned.parameters(), recipe.clip_norm)
                optimizer.step()
                if averaged:
                    averaged.update(network)
                progress.step(loader.batch_size)
                if is_due(step + 1):
                    verify(stand, names, stage, again)
                keeper.step_ends()
            row = dict(zip(names, verify(stand, names, stage, again).mean(0).tolist(), strict=True))
            logits = predict_together(kept, loader, positions, machine, ranks)
            verify_logits(logits, stage, epoch)
            row |= {"val_accuracy": accuracy(logits, targets), "val_loss": nll(logits, targets)}
            row[picked] = PICKS[pick_by](logits, targets)
            row |= {"lr": stand.rates[-1], **progress.rate()}
            row = {"stage": stage, "epoch": epoch, **row}
            if row[picked] >= stand.best.get(picked, -1.0):  # of equals the later: it has seen more
                best = copy.deepcopy(kept.state_dict())
                scores = {name: row[name] for name in ("val_accuracy", picked)}
                stand.best = {**scores, "epoch": epoch, "state": best}
            keeper.epoch_ends(row)
            log(row)
            found = f"loss {row['loss']:.3f}  val {100 * row[picked]:.1f} %"
            progress.epoch_ends(found, row["images_per_s"])
    progress.close()
    network.load_state_dict(stand.best["state"])
    network.eval()
    return {
        "epochs": recipe.epochs,
        "best_epoch": stand.best["epoch"],
        "picked_by": pick_by,
        **{f"best_{name}": stand.best[name] for name in ("val_accuracy", picked)},
        **{f"last_{name}": stand.rows[-1][name] for name in ("val_accuracy", picked)},
        "seconds": keeper.seconds(),
    }


class Step(nn.Module):
    """All that a step differentiates, adapters of the objective too, in one module: what DDP wraps."""

    def __init__(self, network: nn.Module, objective: Objective, machine: Machine, compile: bool):
        super().__init__()
        self.network, self.objective, self.machine = network, objective, machine
        self.needs = objective.needs
        self.see = torch.compile(observe) if compile else observe

    def forward(self, batch: Batch, answer: Outputs | None) -> tuple[Tensor, Tensor]:
        """Return the loss and, without gradients, [loss, every part of it, accuracy]."""
        with self.machine.autocast():
            outputs = self.see(self.network, batch.image, self.needs).full(self.needs)
        loss, parts = self.objective(outputs, answer, batch)
        hits = (outputs.logits.argmax(-1) == batch.target).float().mean()
        hits = hits + 0 * outputs.logits.sum()  # NaN where a logit is not finite: it was no guess
        return loss, torch.stack([loss, *parts.values(), hits]).detach()


def predict_together(
    network: nn.Module, loader: Loader, positions: np.ndarray, machine: Machine, ranks: Ranks
) -> np.ndarray:
    """The logits of the images at ``positions``, float32 [N, K], to all; each process answers a slice."""
    if len(positions) < ranks.size:
        ranks = ALONE  # too few to share: each answers every one
    return np.concatenate(ranks.gather(predict(network, loader.plain(ranks.part(positions)), machine)))


class Average:
    """The exponential moving average of a network, buffers included; its decay starts low and rises to ``decay``."""

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay, self.steps = copy.deepcopy(network), decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mine, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)
