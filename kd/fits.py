"""train.batch_size=auto: the fewest pieces of a batch that fit into memory, found by training on one batch."""

from __future__ import annotations

import copy
import gc
import io
import math
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from kd.data.loader import LOOKED, Loader
from kd.evaluate import predict
from kd.memory import TooLarge, is_memory
from kd.pipeline import Parts, context
from kd.progress import say
from kd.teacher import LiveTeacher
from kd.train import fit

ROOM = 1.25  # times as many images must fit: memory falls to pieces of its own in a long run


def fewest_pieces(parts: Parts) -> int:
    """Return the fewest pieces (those of ``parts``, doubled as often as it takes) in which every network can train.

    Each is tried as it will be: a copy takes two steps with its optimiser, its method and its teacher beside it, and
    answers validation images. Of several processes each tries its share of a batch.

    Raises:
        TooLarge: not even pieces of two images fit.
    """
    loader, ranks = parts.tasks["student"].loader, parts.ranks
    pieces = loader.pieces
    while ranks.most(0 if _fits(parts, pieces) else 1):
        if loader.batch_size < 4 * pieces * ranks.size:
            size = parts.pictures.image_size
            raise TooLarge(
                f"train.batch_size=auto: memory does not even hold {loader.batch_size // pieces} images of {size} x "
                f"{size} pixels. Say a smaller network or data.image_size, or close what else uses the memory."
            )
        pieces *= 2
    how = f"in {pieces} pieces of up to {-(-loader.batch_size // pieces)}" if pieces > 1 else "at once"
    say(f"train.batch_size=auto: memory holds a batch of {loader.batch_size} images {how}")
    return pieces


def _fits(parts: Parts, pieces: int) -> bool:
    try:
        with redirect_stdout(io.StringIO()):
            for stage in parts.tasks:
                _try(parts, stage, pieces)
    except Exception as error:
        if not is_memory(error):
            raise
        return False
    finally:  # behind the handler, which drops the error and the tensors that its frames hold
        gc.collect()
        if parts.machine.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _try(parts: Parts, stage: str, pieces: int) -> None:
    task, machine = parts.tasks[stage], parts.machine
    loader, network = _one_batch(task.loader, pieces, parts.ranks.size), copy.deepcopy(task.network)
    if task.given:
        predict(machine.prepare(network), loader.plain(loader.pictures.val), machine)
        return
    objective, teacher = copy.deepcopy(task.objective), None
    if stage in parts.fresh:
        guide = machine.prepare(copy.deepcopy(_guide(parts, stage))).eval()
        network = objective.enter(context(parts, stage, network, guide))
        teacher = LiveTeacher(guide, machine, objective.needs) if objective.needs else None
    recipe = replace(task.recipe, epochs=2, lr=1e-12)  # without a warm-up no other rate would be safe
    fit(network, objective, loader, recipe, machine, stage=stage, teacher=teacher)


def _one_batch(loader: Loader, pieces: int, processes: int) -> Loader:
    """The same on one batch that is larger by ``ROOM``, or on what one of several processes gets of it."""
    one = copy.copy(loader)
    one.batch_size, one.pieces = math.ceil(ROOM * loader.batch_size / processes), pieces
    train = np.resize(loader.order(1), one.batch_size)
    one.pictures = replace(loader.pictures, train=train, val=loader.pictures.val[:LOOKED])
    return one


def _guide(parts: Parts, stage: str) -> nn.Module:
    """Who teaches in a stage, not trained yet."""
    taught = list(parts.fresh)
    if stage != taught[0]:
        return parts.tasks[taught[taught.index(stage) - 1]].network
    members = [task.network for name, task in parts.tasks.items() if name.startswith("teacher")]
    return parts.together(members) if parts.together else members[0]
