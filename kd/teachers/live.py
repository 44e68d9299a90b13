"""A teacher that runs a forward pass on every batch."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import nn

from kd.interfaces import DEFAULT_NEEDS, Batch, Outputs, extract_outputs
from kd.runtime.device import Device


class LiveTeacher:
    """Asks the network: in eval mode and without gradients, always, in the precision of training.

    Args:
        show: what it shows beside its logits, see ``observe``.
    """

    def __init__(self, network: nn.Module, machine: Device, show: Set[str] = DEFAULT_NEEDS):
        self.network = machine.to_device(network).eval().requires_grad_(False)
        self.machine, self.show = machine, show

    def __call__(self, batch: Batch) -> Outputs:
        with torch.no_grad(), self.machine.autocast():
            return extract_outputs(self.network.eval(), batch.image, self.show)
