"""Information Theoretic Representation Distillation (Miles, Lopez-Rodriguez, Mikolajczyk, BMVC 2022),
https://arxiv.org/abs/2112.00459.

Two losses on embeddings. Correlation: each number of the student's embedding, after a linear layer to the teacher's
width, should correlate over the batch with that of the teacher; log2 sum_d |c_d - 1|^(2 order), where a larger order
looks more at the numbers that agree least. Mutual: the cosines of all pairs of images in the student should hold no
more than the teacher's do; G are the student's cosines and K their products with the teacher's, each divided by its
trace, and the loss is the sum of G^2 minus the sum of K^2. Costs the linear layer, in training only, and two matrices
of B^2 numbers.

Values agree with the authors' code. There the standard deviation divides by B - 1 and the product by B, so that c of
a perfect match is (B - 1) / B, and with twice the batch the correlation changes by a share of about 1 / B; and the
linear layer, which both losses share, is left out of the mutual one where the widths are equal. Its correlation is NaN
where one number is constant over the batch, as a ReLU that never opens; here such a number correlates with nothing
and has no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, check_embedding
from kd.methods.rkd import rows_of_length_one

ROUNDINGS = 8  # a column that varies by no more than these is constant


def standardized(x: Tensor) -> Tensor:
    """Return (x - mean) / sd of each column over the batch, sd with B - 1: [B, D] -> [B, D]; constant ones become 0."""
    apart = x - x.mean(0)
    variance = apart.square().sum(0) / (len(x) - 1)
    least = (ROUNDINGS * torch.finfo(x.dtype).eps * x.detach().abs().amax(0)).square()
    return apart / variance.masked_fill(variance <= least, math.inf).sqrt()  # the root after the mask: its slope at 0


def correlation_loss(student: Tensor, teacher: Tensor, order: float | Tensor) -> Tensor:
    """Return log2 sum_d |c_d - 1|^(2 order), a scalar; c_d: the correlation of column d, times (B - 1) / B.

    Args:
        student, teacher: [B, D], B at least 2. order: the paper's alpha, above 0.
    """
    correlation = (standardized(student) * standardized(teacher)).sum(0) / len(student)
    return ((correlation - 1).square() ** order).sum().log2()


def mutual_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ||G / tr G||^2 - ||K / tr K||^2, a scalar; G: the student's cosines, K: times the teacher's.

    Args:
        student, teacher: [B, D] and [B, D'].
    """
    own, given = (x @ x.transpose(-1, -2) for x in map(rows_of_length_one, (student, teacher)))
    return _purity(own) - _purity(own * given)


def _purity(alike: Tensor) -> Tensor:
    trace = alike.diagonal(dim1=-2, dim2=-1).sum(-1)  # the number of images with a direction
    return (alike / trace.clamp_min(1)).square().sum()


class ITRD(nn.Module):
    """The weighted sum of ``correlation_loss`` and ``mutual_loss`` of the embeddings of a batch.

    Args:
        correlation, mutual: weights of the two losses.
        order: of the correlation, above 0; the paper's alpha.
    """

    needs = frozenset({"embedding"})

    def __init__(self, correlation: float | Tensor = 2.0, mutual: float | Tensor = 0.05, order: float | Tensor = 1.5):
        super().__init__()
        for name, weight in (("correlation", correlation), ("mutual", mutual)):
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} is a weight and must not be below 0, got {weight}")
        if not isinstance(correlation, Tensor) and not isinstance(mutual, Tensor) and correlation == mutual == 0:
            raise ValueError("kd.correlation and kd.mutual are both 0: there is nothing to learn from the teacher")
        if not isinstance(order, Tensor) and not 0 < order < math.inf:
            raise ValueError(f"kd.order must be above 0, got {order}")
        self.correlation, self.mutual, self.order = correlation, mutual, order

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the linear layer from the student's embedding to the teacher's width.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=itrd")
        self.embed = nn.Linear(student.embedding.shape[-1], teacher.embedding.shape[-1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, given = student.embedding, teacher.embedding
        check_batch(len(own), "kd=itrd")
        mapped = self.embed(own)
        mutual = mutual_loss(own if own.shape[-1] == given.shape[-1] else mapped, given)
        return self.correlation * correlation_loss(mapped, given, self.order) + self.mutual * mutual
