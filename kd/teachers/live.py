"""A teacher that runs a forward pass on every batch."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import nn

from kd.interfaces import DEFAULT_NEEDS, Batch, Outputs, extract_outputs
from kd.runtime.device import Device


class LiveTeacher:
    """Runs the network on each batch: always in eval mode, without gradients, in the precision of training.

    Args:
        needs: the outputs to return besides the logits, see ``extract_outputs``.
    """

    def __init__(self, network: nn.Module, device: Device, needs: Set[str] = DEFAULT_NEEDS):
        self.network = device.to_device(network).eval().requires_grad_(False)
        self.device, self.needs = device, needs

    def __call__(self, batch: Batch) -> Outputs:
        with torch.no_grad(), self.device.autocast():
            return extract_outputs(self.network.eval(), batch.image, self.needs)
