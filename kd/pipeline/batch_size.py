"""``train.batch_size=auto``: find the smallest number of micro-batches that fits in memory by training on one batch."""

from __future__ import annotations

import copy
import gc
import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from kd.data.loader import EVAL_BATCH, Loader
from kd.evaluation.predict import predict
from kd.pipeline.distill import method_context
from kd.pipeline.plan import RunPlan
from kd.pipeline.stage import StageSpec
from kd.runtime.console import print_line
from kd.runtime.distributed import World
from kd.runtime.memory import OutOfMemory, is_out_of_memory
from kd.teachers.live import LiveTeacher
from kd.train.loop import fit

MARGIN = 1.25  # times as many images must fit: in a long run memory is fragmented


def smallest_grad_accum(plan: RunPlan) -> int:
    """Return the smallest number of micro-batches that fits every network: that of ``plan``, doubled until it fits.

    Each network is tried as it will be trained: a copy takes two steps with its optimiser, method and teacher, and
    predicts validation images. Each of several processes tries its slice of a batch.

    Raises:
        OutOfMemory: not even micro-batches of two images fit.
    """
    loader, world = plan.stages["student"].loader, plan.world
    count = loader.grad_accum_steps
    while world.all_reduce_max(0 if fits_in_memory(plan, count) else 1):
        if loader.batch_size < 4 * count * world.size:
            size = plan.dataset.image_size
            raise OutOfMemory(
                f"train.batch_size=auto: not even {loader.batch_size // count} images of {size} x {size} pixels fit in "
                "memory. Use a smaller network or data.image_size, or free memory that other programs use."
            )
        count *= 2
    how = f"in {count} micro-batches of up to {-(-loader.batch_size // count)}" if count > 1 else "at once"
    print_line(f"train.batch_size=auto: a batch of {loader.batch_size} images fits in memory {how}")
    return count


def fits_in_memory(plan: RunPlan, micro_batches: int) -> bool:
    """Whether every network of the run can be trained with this many micro-batches."""
    try:
        with redirect_stdout(io.StringIO()):
            for spec in plan.stages.values():
                try_stage(plan, spec, micro_batches)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:  # after the handler, which drops the error and the tensors that its frames hold
        gc.collect()
        kind = plan.device.device.type
        if kind != "cpu":
            getattr(torch, kind).empty_cache()  # of torch.cuda or torch.mps
    return True


def try_stage(plan: RunPlan, spec: StageSpec, micro_batches: int) -> None:
    """Train a copy of one network on one batch, or predict validation images with a trained one."""
    device = plan.device
    loader, network = _one_batch(spec.loader, micro_batches, plan.world.size), copy.deepcopy(spec.network)
    if spec.is_trained:
        predict(device.to_device(network), loader.eval_batches(loader.dataset.val), device)
        return
    objective, live = copy.deepcopy(spec.objective), None
    if spec.has_method:
        teacher = plan.initial_teacher(spec)
        teacher = teacher and device.to_device(copy.deepcopy(teacher)).eval()
        context = method_context(plan, spec.role, network, teacher, few=True)
        network = objective.bind(context._replace(batch_size=loader.batch_size))
        live = LiveTeacher(teacher, device, objective.needs) if teacher else None
    # all layers learn, which takes the most memory; without a warm-up, a larger rate might diverge
    recipe = replace(spec.recipe, epochs=2, lr=1e-12, freeze_epochs=0)
    fit(
        network,
        objective,
        loader,
        recipe,
        device,
        stage=spec.role,
        teacher=live,
        world=_Trial(processes=plan.world.size),
        measure_gradients=False,
    )


@dataclass(frozen=True)
class _Trial(World):
    """One of several processes, which tries its slice alone, with the memory in which DDP collects its gradients."""

    processes: int = 1

    def wrap_ddp(self, step: nn.Module) -> nn.Module:
        if self.processes > 1:
            step.buckets = [torch.zeros_like(p) for p in step.parameters() if p.requires_grad]
        return step


def _one_batch(loader: Loader, micro_batches: int, processes: int) -> Loader:
    """Return a loader of one batch that is larger by ``MARGIN``; of several processes, of one process's slice."""
    one = copy.copy(loader)
    one.batch_size, one.grad_accum_steps = math.ceil(MARGIN * loader.batch_size / processes), micro_batches
    one.train = np.resize(loader.order(1), one.batch_size)
    one.dataset = replace(loader.dataset, val=loader.dataset.val[:EVAL_BATCH])
    return one
