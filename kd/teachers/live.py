"""A teacher that runs a forward pass on every batch."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import nn

from kd.interfaces import DEFAULT_NEEDS, Batch, Outputs, extract_outputs
from kd.runtime.device import Device
from kd.teachers.frozen import frozen_copy


class LiveTeacher:
    """Runs the network on each batch: always in eval mode, without gradients, in the precision of training.

    The first batch makes the faster copy that runs, see ``frozen_copy``; ``network`` itself stays as it is.

    Args:
        needs: the outputs to return besides the logits, see ``extract_outputs``.
    """

    def __init__(self, network: nn.Module, device: Device, needs: Set[str] = DEFAULT_NEEDS):
        self.network = device.to_device(network).eval().requires_grad_(False)
        self.device, self.needs = device, needs
        self._frozen: nn.Module | None = None

    def __call__(self, batch: Batch) -> Outputs:
        with torch.no_grad(), self.device.turns():
            if self._frozen is None:
                self.network.eval()
                self._frozen = frozen_copy(self.network, batch.image[:2], self.device, self.needs).eval()
            if self._frozen.training:  # a method may hold the network in one that it trains
                self._frozen.eval()
            with self.device.autocast():
                return extract_outputs(self._frozen, batch.image, self.needs)
