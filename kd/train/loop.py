"""The training loop: one network, one objective, one recipe, with or without a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from kd.data.loader import Loader
from kd.interfaces import Teacher
from kd.runtime.device import Device
from kd.runtime.distributed import SINGLE_PROCESS, World
from kd.train.checkpoint import CheckpointFolder
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.training import Training


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
    measure_gradients: bool = True,
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
        measure_gradients: put the gradient of each term into some rows; see ``kd.train.meter``. It changes no weight.

    Returns:
        ``{"epochs", "best_epoch", "picked_by", "best_val_accuracy", "last_val_accuracy", "seconds"}``. "best" is the
        epoch that validation picked, "last" the last one. With ``pick_by="macro_f1"`` there are "best_val_macro_f1" and
        "last_val_macro_f1", too.

    Raises:
        NonFiniteLoss: the loss is not finite; names term, epoch, step and learning rate.
        KeyboardInterrupt: after a checkpoint, if the process received a signal.
    """
    training = Training(
        network,
        objective,
        loader,
        recipe,
        device,
        stage=stage,
        teacher=teacher,
        world=world,
        compile=compile,
        pick_by=pick_by,
        checkpoints=checkpoints,
        log=log,
        measure_gradients=measure_gradients,
    )
    with training.manager.stop_on_interrupt():
        while not training.is_over:
            training.train_epoch()
    return training.finish()
