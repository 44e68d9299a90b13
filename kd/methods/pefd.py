"""PEFD: Improved Feature Distillation via Projector Ensemble (Chen, Wang, Liu, Xu, de Hoog, Huang, NeurIPS 2022),
https://arxiv.org/abs/2210.15274.

Several projectors, each a linear layer and a ReLU, map the student's embedding to the width of the teacher's; their
mean is compared with the teacher's embedding by its direction alone. The projectors differ only in where they start,
and are used also where the widths are equal. Costs D E weights for each projector in training, for embeddings of D and
E numbers.

The published code divides by the lengths as they are; here an embedding of zeros has no direction, distance 1 and no
gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_embedding
from kd.methods.rkd import rows_of_length_one
from kd.runtime.user_warnings import warn_user


def projector_ensemble(student: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the mean over Q projectors of ReLU(W_q e + b_q), [B, D] -> [B, E].

    Args:
        student: [B, D]. weight: [Q, E, D]. bias: [Q, E].
    """
    return (student @ weight.transpose(-1, -2) + bias.unsqueeze(-2)).relu().mean(-3)


def direction_distance(projected: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over B of 1 - the cosine of two embeddings [B, E], a scalar."""
    # half the squared distance of the directions, which is 1 - cosine without its cancellation; rows of 0 have 1
    own, given = rows_of_length_one(projected), rows_of_length_one(teacher)
    lengths = own.square().sum(-1) + given.square().sum(-1)
    return ((own - given).square().sum(-1) / 2 + (1 - lengths / 2)).mean()


class PEFD(nn.Module):
    """``direction_distance`` of the projected embedding.

    Args:
        projectors: Q, their number.
    """

    needs = frozenset({"embedding"})

    def __init__(self, projectors: int = 3):
        super().__init__()
        if projectors < 1:
            raise ValueError(f"kd.projectors is a number of layers and must be 1 or more, got {projectors}")
        self.projectors = projectors

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the projectors, each started as torch starts a linear layer.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=pefd")
        if (teacher.embedding < 0).any():
            warn_user(
                "kd=pefd: the teacher's embedding has numbers below 0, which the ReLU of the projectors cannot reach. "
                "A teacher that ends in a ReLU and a global average pool, such as a ResNet, works better"
            )
        inside, outside = student.embedding.shape[-1], teacher.embedding.shape[-1]
        bound = 1 / math.sqrt(inside)
        self.weight = nn.Parameter(torch.empty(self.projectors, outside, inside).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(self.projectors, outside).uniform_(-bound, bound))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return direction_distance(projector_ensemble(student.embedding, self.weight, self.bias), teacher.embedding)
