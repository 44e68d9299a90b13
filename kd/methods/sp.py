"""Similarity-Preserving Knowledge Distillation (Tung and Mori, ICCV 2019), https://arxiv.org/abs/1907.09682.

The student learns which images of a batch have similar last maps in the teacher. The loss compares only similarities
within a batch, so the channels and sizes of the two maps may differ: no adapter, no pooling. Costs B^2 numbers and
2 B^2 CHW operations for each map and network.

Rows of the similarity matrix have Euclidean length 1, as in the paper and RepDistiller; torchdistill divides them by
the sum of magnitudes instead, a slip in an argument, which after a ReLU shrinks the loss by about the batch size. Also
with the rows of the paper, twice the batch has half the loss: the published weight of 3000 is for batches of 64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, paired_maps


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ||G_s - G_t||_F^2 / B^2, a scalar; G = F F' with rows of length 1, F the flattened maps.

    Args:
        student, teacher: [B, C, H, W] and [B, D, I, J], or any [B, ...].
    """
    return (_similarities(student) - _similarities(teacher)).square().mean()


def _similarities(x: Tensor) -> Tensor:
    """[B, ...] -> [B, B]. The row of an image of zeros is 0, without gradient (in other codes the gradient is 1e12)."""
    flat = x.flatten(1)
    alike = flat @ flat.transpose(0, 1)
    length = torch.linalg.vector_norm(alike, dim=-1, keepdim=True)
    return alike / length.masked_fill(length < 1e-12, math.inf)


class SP(nn.Module):
    """Similarities of a batch's maps, summed over stages.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = (-1,)):
        super().__init__()
        self.stages = stages

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build.

        Raises:
            ValueError: a teacher without maps, or a stage that one of the two networks does not have.
        """
        paired_maps(student, teacher, self.stages)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        chosen = paired_maps(student, teacher, self.stages)
        check_batch(len(chosen[0][0]), "kd=sp")
        return sum(similarity_loss(own, given) for own, given in chosen)
