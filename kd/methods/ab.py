"""Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons (Heo, Lee, Yun, Choi, AAAI
2019), https://arxiv.org/abs/1811.03233.

In the first part of the training the student learns only on which side of 0 each neuron of the teacher is: a squared
hinge pulls its map, through a 1x1 convolution and batch norm, above +margin where the teacher's neuron is active and
below -margin elsewhere. In the second part the student learns from the labels alone. Stages have weights 1, 1/2, 1/4,
... from the deepest. Costs a 1x1 convolution a stage; the teacher still runs in the second part, with weight 0.

A neuron is active where the map is above 0, which is the same after a ReLU as before it; for maps without a ReLU (GELU,
SiLU, ConvNeXt's blocks) it is only their sign. The paper reads both maps before the ReLU and needs no connector between
maps of one shape. Here a connector is always there, because a student's map after a ReLU is never negative. A larger
teacher's map is sampled and not pooled: the mean of a few ReLUs is above 0 nearly everywhere.

The authors restart the learning rate for the second part and learn from soft labels alone there (T = 3). RepDistiller
learns from labels alone, and so does this method, in one learning rate schedule. Their factor of 3/1000 is the weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import conv_norm, paired_maps, pool_to


def boundary_loss(student: Tensor, teacher: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    """Return the squared hinge, a scalar: summed over C, H and W, mean over B.

    It is max(margin - student, 0)^2 where teacher > 0, and max(margin + student, 0)^2 elsewhere.

    Args:
        student, teacher: [B, C, H, W], of one shape; only the sign of the teacher's map counts.
        margin: above 0, a number or a tensor that broadcasts over [B, C, H, W].
    """
    towards = torch.where(teacher > 0, student, -student)
    return (margin - towards).clamp(min=0).square().sum((1, 2, 3)).mean()


class AB(nn.Module):
    """Activation boundaries through connectors, summed over stages with weights that halve towards the image.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
        margin: how far on its side of 0 a neuron should be.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = None, margin: float | Tensor = 1.0):
        super().__init__()
        if not isinstance(margin, Tensor) and not margin > 0:
            raise ValueError(f"kd.margin must be above 0, got {margin}")
        self.stages, self.margin = stages, margin

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        self.connectors = nn.ModuleList(
            conv_norm(own.shape[1], given.shape[1]) for own, given in paired_maps(student, teacher, self.stages)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        losses = []
        for connector, (own, given) in zip(self.connectors, paired_maps(student, teacher, self.stages), strict=True):
            size = [min(sides) for sides in zip(own.shape[-2:], given.shape[-2:], strict=True)]
            own, given = pool_to(own, *size), F.interpolate(given, size, mode="nearest-exact")
            losses.append(boundary_loss(connector(own), given, self.margin))
        return sum(loss / 2**above for above, loss in enumerate(reversed(losses)))
