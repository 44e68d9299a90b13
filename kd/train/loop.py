"""The training loop: one network, one objective, one recipe, with or without a teacher."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from torch import nn

from kd.data.loader import Loader
from kd.evaluation.metrics import PICKS, accuracy, nll
from kd.evaluation.predict import predict_distributed
from kd.interfaces import Batch, Outputs, Teacher, extract_outputs
from kd.runtime.console import Progress
from kd.runtime.device import Device
from kd.runtime.distributed import SINGLE_PROCESS, World
from kd.train.checkpoint import CheckpointFolder
from kd.train.ema import ModelEma
from kd.train.finite import check_due, check_finite, check_logits
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.resume import CheckpointManager
from kd.train.schedules import warmup_cosine
from kd.train.state import TrainState
from kd.train.step import TrainStep


def fit(
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
) -> dict[str, Any]:
    """Train ``network`` in place, up to the weights of the epoch that validation picks.

    Args:
        network: takes [B, 3, H, W] in [0, 1]. teacher: returns outputs for each batch, without gradients.
        stage: the role, which names the rows of the log and the progress bar.
        world: the processes, each of which takes a slice of each batch. All end with the same weights and get the log.
        pick_by: the measure on validation images that picks the epoch, of ``kd.evaluation.metrics.PICKS``; among equal
            epochs the latest.
        checkpoints: where the training resumes from and saves to.
        log: gets one row per epoch, see ``metrics.jsonl`` in docs/outputs.md. A training that resumes first logs the
            rows of the epochs before its checkpoint again.

    Returns:
        ``{"epochs", "best_epoch", "picked_by", "best_val_accuracy", "last_val_accuracy", "seconds"}``. "best" is the
        epoch that validation picked, "last" the last one. With ``pick_by="macro_f1"`` there are "best_val_macro_f1" and
        "last_val_macro_f1", too.

    Raises:
        NonFiniteLoss: the loss is not finite; names term, epoch, step and learning rate.
        KeyboardInterrupt: after a checkpoint, if the process received a signal.
    """
    began = time.perf_counter()
    torch.manual_seed(loader.seed)  # for the adapters; the caller initialised the network
    device.to_device(network).train()
    first = next(loader.epoch(1))
    two_images = first._replace(image=first.image[:2], target=first.target[:2], index=first.index[:2])
    with torch.no_grad(), device.autocast():
        # on a copy: the statistics of batch norm must not change
        example = extract_outputs(copy.deepcopy(network), two_images.image, objective.needs).to_float32(objective.needs)
    teacher_outputs = teacher(two_images).to_float32(objective.needs) if teacher else None
    objective.setup(example, teacher_outputs)
    objective.to(device.device).train()
    torch.manual_seed(loader.seed + 1_000_003 * world.rank)  # for dropout: the same for every objective
    train_step = TrainStep(network, objective, device, compile)
    ddp = world.wrap_ddp(train_step)
    optimizer = recipe.optimizer_of(train_step)
    averaged = ModelEma(network, recipe.ema) if recipe.ema else None
    evaluated = averaged.network if averaged else network
    state = TrainState(train_step, optimizer, averaged, world)
    manager = CheckpointManager(state, checkpoints, stage, loader.steps, began)
    manager.resume(loader.seed)
    for row in state.rows:
        log({**row, "stage": stage})

    # The objective returns the mean over this process's slice of a micro-batch, and these shares weight its gradient.
    # DDP averages over processes and backward() adds over micro-batches: together the gradient of the batch's mean.
    shares = [torch.tensor(world.shard_weight(n) * n / loader.batch_size, device=device.device) for n in loader.sizes]
    positions, targets = loader.dataset.val, loader.dataset.targets[loader.dataset.val]
    names = ["loss", *objective.terms, "train_accuracy"]
    picked = f"val_{pick_by}"
    progress = Progress(stage, recipe.epochs, loader.steps, state.epoch - 1, state.step)

    def replay(step: int) -> Iterator[tuple[Batch, Outputs | None]]:
        for batch in islice(loader.epoch(state.epoch, world.shard, step), loader.grad_accum_steps):
            yield batch, teacher(batch).to_float32(frozenset()) if teacher else None

    with manager.stop_on_interrupt():
        for epoch in range(state.epoch, recipe.epochs + 1):
            network.train()
            micro_batches = loader.epoch(epoch, world.shard, state.step)
            for step in range(state.step, loader.steps):
                progress_made = (epoch - 1 + (step + 0.5) / loader.steps) / recipe.epochs
                rate = recipe.lr * warmup_cosine(progress_made, recipe.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                manager.on_step_start()
                for left, share in zip(range(loader.grad_accum_steps, 0, -1), shares, strict=True):
                    batch = next(micro_batches)._replace(progress=progress_made)
                    teacher_outputs = teacher(batch).to_float32(objective.needs) if teacher else None
                    with world.no_sync(ddp) if left > 1 else nullcontext():
                        loss, numbers = ddp(batch, teacher_outputs)
                        loss.backward(share)
                    state.record_step(rate, share * numbers, new=left == loader.grad_accum_steps)
                if recipe.clip_norm:
                    nn.utils.clip_grad_norm_(train_step.parameters(), recipe.clip_norm)
                optimizer.step()
                if averaged:
                    averaged.update(network)
                progress.step(loader.batch_size)
                if check_due(step + 1):
                    check_finite(state, names, stage, replay)
                manager.on_step_end()
            row = dict(zip(names, check_finite(state, names, stage, replay).mean(0).tolist(), strict=True))
            logits = predict_distributed(evaluated, loader, positions, device, world)
            check_logits(logits, stage, epoch)
            row |= {"val_accuracy": accuracy(logits, targets), "val_loss": nll(logits, targets)}
            row[picked] = PICKS[pick_by](logits, targets)
            row |= {"lr": state.rates[-1], **progress.rate()}
            row = {"stage": stage, "epoch": epoch, **row}
            if row[picked] >= state.best.get(picked, -1.0):  # among equal epochs the latest: it has seen more images
                best = copy.deepcopy(evaluated.state_dict())
                scores = {name: row[name] for name in ("val_accuracy", picked)}
                state.best = {**scores, "epoch": epoch, "state": best}
            manager.on_epoch_end(row)
            log(row)
            scores = f"loss {row['loss']:.3f}  val {100 * row[picked]:.1f} %"
            progress.on_epoch_end(scores, row["images_per_s"])
    progress.close()
    network.load_state_dict(state.best["state"])
    network.eval()
    return {
        "epochs": recipe.epochs,
        "best_epoch": state.best["epoch"],
        "picked_by": pick_by,
        **{f"best_{name}": state.best[name] for name in ("val_accuracy", picked)},
        **{f"last_{name}": state.rows[-1][name] for name in ("val_accuracy", picked)},
        "seconds": manager.seconds(),
    }
