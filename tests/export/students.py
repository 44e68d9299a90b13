"""Students for the tests of exports: of any architecture, with batch norms that do something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.inference.assemble import assemble
from kd.inference.description import Description
from kd.inference.model import Model

TINY = {"_target_": "kd.models.tiny_cnn.TinyCNN", "width": 0.25, "depth": 3, "dropout": 0.1}
CLASSES = ("sea, calm", 'a "quoted" one', "🦉 owl", "línea")


def timm(name: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a network of timm."""
    return {"_target_": "kd.models.backbone.build", "name": name, "pretrained": False, "stem": "auto", **settings}


def student(network: Mapping[str, Any] = TINY, size: int = 32, classes: tuple[str, ...] = CLASSES) -> Model:
    """Return a student with weights and statistics from a seed."""
    torch.manual_seed(0)
    description = Description({"network": network}, classes, size, size, name="a_run", key="c0ffee", data="scenes")
    made = assemble(description.network, classes, size)
    made.normalize_by((0.45, 0.5, 0.4), (0.2, 0.25, 0.3))
    return Model(randomised(made), description)


def randomised(network: nn.Module) -> nn.Module:
    """Give batch norms the statistics, scales and shifts of a trained network."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            size = (module.num_features,)
            module.running_mean.copy_(torch.randn(size, generator=generator) / 10)
            module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            if module.affine:
                module.weight.data.copy_(torch.rand(size, generator=generator) + 0.5)
                module.bias.data.copy_(torch.randn(size, generator=generator) / 10)
    return network.eval().requires_grad_(False)


def images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
