"""Correlation Congruence for Knowledge Distillation (Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang, ICCV 2019),
https://arxiv.org/abs/1904.01802.

The student learns to find the same images alike as the teacher does. Both embeddings go through a linear layer to the
same width; both layers are learned, so part of the decrease of this loss is due to the layers alone. Costs the two
layers and B^2 numbers (``paper``), or next to nothing (``repdistiller``).

Two losses have this name:

- ``repdistiller``: the code that the authors gave to RepDistiller, which most tables call CC. It has no kernel: it
  multiplies the absolute differences of student and teacher for neighbours in the batch. It depends on the order of the
  batch, and is 0 if the student matches every other image perfectly.
- ``paper``: || K_s - K_t ||_F^2 / B^2 with a Gaussian kernel, as a Taylor polynomial of dot products. The polynomial is
  the Gaussian of a distance only for rows of length 1, so this method normalises the rows. torchdistill does not
  normalise, and does not square the norm: with its value v, this loss is v^2 B^2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, check_embedding

VARIANTS = ("repdistiller", "paper")


def gaussian_kernel(x: Tensor, gamma: float | Tensor = 0.4, order: int = 2) -> Tensor:
    """Return e^(-2 gamma) sum_{p <= order} (2 gamma)^p / p! (x x')^p: [B, D] -> [B, B], powers by element.

    For rows of length 1 it tends to exp(-gamma || x_i - x_j ||^2) as the order grows.
    """
    slope = 2 * gamma
    alike = slope * (x @ x.transpose(-1, -2))
    series = sum(alike**power / math.factorial(power) for power in range(order + 1))
    return series * (torch.exp(-slope) if isinstance(slope, Tensor) else math.exp(-slope))


def congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return || K_s - K_t ||_F^2 / B^2, a scalar, of two tables of kernel values [B, B]."""
    return (student - teacher).square().mean()


def neighbour_congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean_{b < B} sum_d |apart_b,d| |apart_b+1,d|, a scalar; apart = student - teacher, both [B, D]."""
    apart = (student - teacher).abs()
    return (apart[:-1] * apart[1:]).sum(-1).mean()


class CC(nn.Module):
    """Congruence of the embeddings after two linear layers.

    Args:
        variant: "repdistiller" or "paper".
        dim: width of the layers' outputs.
        gamma: of the Gaussian, a number or a tensor; variant ``paper`` alone.
        order: of the polynomial; variant ``paper`` alone.
    """

    needs = frozenset({"embedding"})

    def __init__(self, variant: str = "repdistiller", dim: int = 128, gamma: float | Tensor = 0.4, order: int = 2):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        if dim < 1:
            raise ValueError(f"kd.dim is a width and must be 1 or more, got {dim}")
        if not isinstance(gamma, Tensor) and not gamma > 0:
            raise ValueError(f"kd.gamma must be above 0, got {gamma}")
        if not 1 <= order <= 100 or order != int(order):
            raise ValueError(f"kd.order must be a whole number of 1 to 100 (at 0 the kernel is constant), got {order}")
        self.variant, self.dim, self.gamma, self.order = variant, dim, gamma, int(order)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the linear layers.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=cc")
        self.student = nn.Linear(student.embedding.shape[-1], self.dim)
        self.teacher = nn.Linear(teacher.embedding.shape[-1], self.dim)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.embedding), "kd=cc")
        own, given = self.student(student.embedding), self.teacher(teacher.embedding)
        if self.variant == "repdistiller":
            return neighbour_congruence(own, given)
        own, given = (gaussian_kernel(F.normalize(x, dim=-1), self.gamma, self.order) for x in (own, given))
        return congruence(own, given)
