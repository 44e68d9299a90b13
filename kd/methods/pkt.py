"""Learning Deep Representations with Probabilistic Knowledge Transfer (Passalis and Tefas, ECCV 2018),
https://arxiv.org/abs/1803.10837.

Each image's cosine similarities to the batch are read as probabilities of picking a neighbour, and the student's follow
the teacher's by their KL divergence. Widths need not agree: no adapter. Costs B^2 numbers and operations B^2 D.

The paper sums over pairs; the authors' code and all peers take the mean over B^2, as here. So twice the batch is half
the loss: the published weight of 3e4 is for batches of 64 to 128. On an embedding of zeros their gradient is NaN; here
such an image has cosine 0 with all, itself included, as in their forward pass, and no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise
from kd.methods._common import check_batch, check_embedding

EPS = 1e-7  # as published, beside lengths and probabilities


def neighbour_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B^2 of P_t log((P_t + eps) / (P_s + eps)), a scalar; P = (1 + cosine) / 2 with rows that sum to 1.

    Args:
        student, teacher: [B, D] and [B, D'].
    """
    own, given = _neighbours(student), _neighbours(teacher)
    loss = (given * ((given + EPS) / (own + EPS)).log()).mean()
    return _precise.with_value(_precise.relative_kl(given, own, EPS).mean() / given.shape[-1], loss)


def _neighbours(x: Tensor) -> Tensor:
    """[B, D] -> [B, B]: of each image, the probabilities of its neighbours, itself among them."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    x = x / (length.masked_fill(length == 0, math.inf) + EPS)
    alike = (1 + x @ x.transpose(0, 1)) / 2
    return alike / alike.sum(-1, keepdim=True)


class PKT(nn.Module):
    """Neighbours among a batch's embeddings."""

    needs = frozenset({"embedding"})

    def __init__(self):
        super().__init__()

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build.

        Raises:
            ValueError: a teacher that shows no embedding.
        """
        check_embedding(teacher, "kd=pkt")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.embedding), "kd=pkt")
        return neighbour_loss(student.embedding, teacher.embedding)
