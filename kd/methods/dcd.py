"""DCD: Discriminative and Consistent Representation Distillation (Giakoumoglou & Stathaki 2024),
https://arxiv.org/abs/2407.11802.

A learned linear layer maps each network's embedding to ``dim`` numbers of length 1; a table holds the inner products
of all students of a batch with all teachers, times a learned scale. The first part asks each student for the teacher of
its own image. The second asks that a student's distribution over the teachers be that of the same image's teacher over
the students. Unlike CRD it has no memory: the other images of the batch are the contrast, also those of the same class,
so a large batch helps. Costs two linear layers in training and a table of B^2 numbers.

As published, neither side of the second part is a constant, and both linear layers learn. The published table also has
a learned bias, the same number in all places: no softmax sees it, and it is left out. Where the scale exceeds its limit
it gets no gradient and stays at the limit. With several processes each compares the images of its own slice.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, check_embedding


def contrast_and_consistency(table: Tensor, consistency: float | Tensor = 0.5) -> Tensor:
    """Return mean_i [-log softmax(row i)_i + consistency KL(softmax(column i) || softmax(row i))], a scalar.

    Args:
        table: [B, B], of student i and teacher j. consistency: weight of the second part, a number or tensor.
    """
    rows, columns = table.log_softmax(-1), table.transpose(-1, -2).log_softmax(-1)
    own = rows.diagonal(dim1=-2, dim2=-1)
    return (consistency * (columns.exp() * (columns - rows)).sum(-1) - own).mean(-1)


class DCD(nn.Module):
    """``contrast_and_consistency`` of the embeddings of a batch.

    Args:
        consistency: weight of the second part.
        scale: what the cosines are multiplied with at the start; learned. max_scale: its limit.
        dim: width of the two linear layers.
    """

    needs = frozenset({"embedding"})

    def __init__(
        self,
        consistency: float | Tensor = 0.5,
        scale: float = math.e,
        max_scale: float | Tensor = 10.0,
        dim: int = 128,
    ):
        super().__init__()
        if not isinstance(consistency, Tensor) and not consistency >= 0:
            raise ValueError(f"kd.consistency is a weight and must not be below 0, got {consistency}")
        if not 0 < scale < math.inf:
            raise ValueError(f"kd.scale must be above 0, got {scale}")
        if not isinstance(max_scale, Tensor) and not max_scale >= scale:
            raise ValueError(f"kd.max_scale must not be below kd.scale, {scale}, got {max_scale}")
        if dim < 1:
            raise ValueError(f"kd.dim is a width and must be 1 or more, got {dim}")
        self.consistency, self.max_scale, self.dim = consistency, max_scale, dim
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the layers.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=dcd")
        self.student = nn.Linear(student.embedding.shape[-1], self.dim)
        self.teacher = nn.Linear(teacher.embedding.shape[-1], self.dim)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.embedding), "kd=dcd")
        own = F.normalize(self.student(student.embedding), dim=-1)
        given = F.normalize(self.teacher(teacher.embedding), dim=-1)
        scale = self.log_scale.exp().clamp(max=self.max_scale)
        return contrast_and_consistency(scale * (own @ given.T), self.consistency)
