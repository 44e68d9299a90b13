"""VkD: Improving Knowledge Distillation using Orthogonal Projections (Miles, Elezi, Deng, CVPR 2024),
https://arxiv.org/abs/2403.06213.

A linear layer without bias maps the student's embedding to the width of the teacher's. Its columns stay orthonormal, so
it keeps the angles and distances between the student's embeddings: what is to be learned is left to the student. The
target is the teacher's embedding after a layer norm, the paper's normalisation for classification (it whitens for image
generation, which is not offered here). Costs a matrix of the two widths in training, and a triangular system of the
student's width in each step.

The columns are a product of Householder reflections of free vectors, so every step of any optimiser leaves them
orthonormal. torch.nn.utils.parametrizations.orthogonal, which the published code uses, does the same without weight
decay; with it, AdamW lowers a stored sign of 1 to 0.99, which torch truncates to 0, and so the whole layer becomes 0.
A teacher narrower than the student has orthonormal rows instead, and then the layer does not see all of the student.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_embedding
from kd.runtime.user_warnings import warn_user


def orthonormal_columns(vectors: Tensor) -> Tensor:
    """Return the first k columns of the product of k reflections, [n, k] with orthonormal columns, n >= k.

    Args:
        vectors: [n, k], any numbers: the part below the diagonal counts; the diagonal is 1 and the rest 0.
    """
    count = vectors.shape[-1]
    start = torch.eye(*vectors.shape[-2:], dtype=vectors.dtype, device=vectors.device)
    v = vectors.tril(-1) + start
    gram = v.transpose(-1, -2) @ v
    # I - V M^-1 V' with M the upper triangle of V'V, its diagonal halved
    middle = gram.triu() - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1)) / 2
    return start - v @ torch.linalg.solve_triangular(middle, v[..., :count, :].transpose(-1, -2), upper=True)


def projected_distance(student: Tensor, teacher: Tensor, projection: Tensor) -> Tensor:
    """Return the smooth L1 loss (its knee at 1), mean over all elements, of P e_s and the layer norm of e_t, a scalar.

    Args:
        student, teacher: [B, D] and [B, E]. projection: P, [E, D].
    """
    return F.smooth_l1_loss(F.linear(student, projection), F.layer_norm(teacher, teacher.shape[-1:]))


class VkD(nn.Module):
    """``projected_distance`` with a projection that is learned and stays orthonormal."""

    needs = frozenset({"embedding"})

    def __init__(self) -> None:
        super().__init__()
        self.narrows = False  # whether the teacher's embedding is the smaller one

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the projection in a random direction.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=vkd")
        inside, outside = student.embedding.shape[-1], teacher.embedding.shape[-1]
        self.narrows = outside < inside
        if self.narrows:
            warn_user(
                f"kd=vkd: the teacher's embedding has {outside} numbers and the student's {inside}, so the projection "
                f"drops {inside - outside} directions of the student. A teacher at least as wide works better"
            )
        shape = max(inside, outside), min(inside, outside)
        self.vectors = nn.Parameter(torch.geqrf(torch.randn(shape))[0].tril(-1))

    def projection(self) -> Tensor:
        """Return P, [E, D]."""
        columns = orthonormal_columns(self.vectors)
        return columns.transpose(-1, -2) if self.narrows else columns

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return projected_distance(student.embedding, teacher.embedding, self.projection())
