"""Learning Deep Representations with Probabilistic Knowledge Transfer (Passalis and Tefas, ECCV 2018),
https://arxiv.org/abs/1803.10837.

The cosine similarities of an image to the batch become probabilities of choosing a neighbour; the loss is the KL
divergence of the student's probabilities from the teacher's. The two embeddings may differ in width: no adapter. Costs
B^2 numbers and B^2 D operations.

The paper sums over pairs; the authors' code and all other implementations use the mean over B^2, as here. So twice the
batch has half the loss: the published weight of 3e4 is for batches of 64 to 128. For an embedding of zeros the gradient
of the authors' code is NaN; here such an image has cosine 0 with all images including itself, as in their forward pass,
and no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise
from kd.methods._common import check_batch, check_embedding

EPS = 1e-7  # as published, added to lengths and probabilities


def neighbour_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over B^2 of P_t log((P_t + eps) / (P_s + eps)); P = (1 + cosine) / 2, with rows that sum to 1.

    Args:
        student, teacher: [B, D] and [B, D'].
    """
    own, given = _neighbours(student), _neighbours(teacher)
    loss = (given * ((given + EPS) / (own + EPS)).log()).mean()
    return _precise.with_value(_precise.relative_kl(given, own, EPS).mean() / given.shape[-1], loss)


def _neighbours(x: Tensor) -> Tensor:
    """Return the probabilities of each image's neighbours, itself included: [B, D] -> [B, B]."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    x = x / (length.masked_fill(length == 0, math.inf) + EPS)
    alike = (1 + x @ x.transpose(0, 1)) / 2
    return alike / alike.sum(-1, keepdim=True)


class PKT(nn.Module):
    """``neighbour_loss`` of the embeddings of a batch."""

    needs = frozenset({"embedding"})

    def __init__(self):
        super().__init__()

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=pkt")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.embedding), "kd=pkt")
        return neighbour_loss(student.embedding, teacher.embedding)
