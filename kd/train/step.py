"""One training step: the student's forward pass, the loss, and the numbers for the log."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs, extract_outputs
from kd.runtime.device import Device
from kd.train.objective import Objective


class TrainStep(nn.Module):
    """All parameters that a step trains, adapters of the objective included, in one module for DDP to wrap.

    Args:
        apart: return the losses of the labels' terms and of all others, in place of their sum.
        compile: compile the whole step (network, loss and log) with ``torch.compile``; on CUDA its kernels are replayed
            as CUDA graphs, which takes the launches off the host.
    """

    def __init__(self, network: nn.Module, objective: Objective, device: Device, compile: bool, apart: bool = False):
        super().__init__()
        self.apart = apart
        self.network, self.objective, self.device = network, objective, device
        self.needs = objective.student_needs
        mode = "reduce-overhead" if device.device.type == "cuda" else "default"
        self.run = torch.compile(run_step, mode=mode) if compile else run_step

    def forward(self, batch: Batch, answer: Outputs | None) -> tuple[Tensor | tuple[Tensor, Tensor], Tensor]:
        """Return the loss, or two, and, without gradients, [loss, its parts, accuracy]."""
        return self.run(self.network, self.objective, self.needs, self.device, batch, answer, self.apart)


def run_step(
    network: nn.Module,
    objective: Objective,
    needs: Set[str],
    device: Device,
    batch: Batch,
    answer: Outputs | None,
    apart: bool = False,
) -> tuple[Tensor | tuple[Tensor, Tensor], Tensor]:
    """Return what ``TrainStep`` returns. ``torch.compile`` makes one graph of it for most methods."""
    with device.autocast():
        outputs = extract_outputs(network, batch.image, needs).to_float32(needs)
    loss, parts = objective(outputs, answer, batch)
    shown = (batch.first_views(1) if batch.label_blocks is None else batch.learners).target
    hits = (outputs.logits[: len(shown)].argmax(-1) == shown).float().mean()
    if batch.labelled is not None:  # images without labels are never hit
        hits = hits / batch.labelled
    hits = hits + 0 * outputs.logits.sum()  # NaN if a logit is not finite
    numbers = torch.stack([loss, *parts.values(), hits]).detach()
    return objective.split(parts, batch) if apart else loss, numbers
