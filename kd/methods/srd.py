"""Understanding the Role of the Projector in Knowledge Distillation (Miles, Mikolajczyk, AAAI 2024),
https://arxiv.org/abs/2303.11098: a simple recipe for distillation (SRD).

A linear layer maps the student's embedding to the teacher's width, batch norm without weights brings both to one scale,
and the loss is a soft maximum of the differences: log sum_{b,d} |e_bd - t_bd|^power. The layer stays, also where the
widths are equal: it learns along, and its weights carry what earlier batches showed. A term of soft labels stands
beside it. Costs the layer, in training only.

The batch norm is always that of the batch; nothing is kept between steps. The sum is over the batch, so twice the batch
adds log 2 to the value and leaves the gradient of the weights as it is. Values agree with the authors' code. There
equal embeddings have a loss of minus infinity; here SMALLEST is added to the sum, so they have a finite value, and no
gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, check_embedding

EPS = 1e-4  # the authors', added to the variance
SMALLEST = 1e-12


def batch_normalized(x: Tensor, eps: float = EPS) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) of each column, variance with B: [B, D] -> [B, D]."""
    apart = x - x.mean(0)
    return apart * torch.rsqrt(apart.square().mean(0) + eps)


def soft_maximum(student: Tensor, teacher: Tensor, power: float | Tensor) -> Tensor:
    """Return log sum_{b,d} |student - teacher|^power, a scalar.

    Args:
        student, teacher: [B, D]. power: at least 1.
    """
    return ((student - teacher).abs().pow(power).sum() + SMALLEST).log()


class SRD(nn.Module):
    """``soft_maximum`` of the embeddings after a linear layer and batch norm.

    Args:
        power: of the differences, at least 1.
    """

    needs = frozenset({"embedding"})

    def __init__(self, power: float | Tensor = 4.0):
        super().__init__()
        if not isinstance(power, Tensor) and not 1 <= power < math.inf:
            raise ValueError(f"kd.power must be at least 1, got {power}")
        self.power = power

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the linear layer from the student's embedding to the teacher's width.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=srd")
        self.embed = nn.Linear(student.embedding.shape[-1], teacher.embedding.shape[-1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.embedding), "kd=srd")
        own, given = self.embed(student.embedding), teacher.embedding
        return soft_maximum(batch_normalized(own), batch_normalized(given), self.power)
