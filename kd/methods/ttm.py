"""Knowledge Distillation Based on Transformed Teacher Matching (Zheng, Yang, ICLR 2024),
https://arxiv.org/abs/2402.11148.

Hinton's term with a temperature in the teacher only. The paper writes it as a power: the student, at T = 1, matches
p_teacher^gamma, made to sum to 1, which is the teacher's softmax at T = 1 / gamma. There is no T^2. WTTM multiplies the
term of each image by U = sum_k p_teacher^gamma: the less sure the teacher, the more an image counts. U lies between 1
and K^(1 - gamma) and is not normalised over the batch, so with many classes a weight of WTTM means more than with few.
Costs one softmax over the teacher's logits (WTTM: two): negligible beside the networks.

The loss is not 0 where student and teacher agree, unless gamma is 1. With gamma < 1 the student is pulled towards
flatter probabilities than the teacher has: the best answer to CE + w TTM is (label + w flattened teacher) / (1 + w).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl_each


def transformed_kl_each(student_logits: Tensor, teacher_logits: Tensor, power: float | Tensor) -> Tensor:
    """Return KL(softmax(power * teacher) || softmax(student)) of each image, [B]: summed over K.

    Args:
        student_logits, teacher_logits: [B, K]. power: above 0, a number or a scalar tensor.
    """
    return soft_label_kl_each(student_logits, power * teacher_logits, 1.0)


def power_sum(teacher_logits: Tensor, power: float | Tensor) -> Tensor:
    """Return sum_k p_k^power of each image, p the softmax at T = 1: [B, K] -> [B]."""
    return (power * torch.log_softmax(teacher_logits, dim=-1)).exp().sum(-1)


class TTM(nn.Module):
    """The student at T = 1 against a transformed teacher.

    Args:
        power: the paper's gamma, 1 / the teacher's temperature.
    """

    needs = frozenset({"logits"})

    def __init__(self, power: float | Tensor = 0.1):
        super().__init__()
        if not isinstance(power, Tensor) and not power > 0:
            raise ValueError(f"kd.power must be above 0, got {power}")
        self.power = power

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""

    def each(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the loss of each image, [B]."""
        return transformed_kl_each(student.logits, teacher.logits, self.power)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.each(student, teacher).mean()


class WTTM(TTM):
    """TTM, weighted image by image."""

    def __init__(self, power: float | Tensor = 0.2):
        super().__init__(power)

    def each(self, student: Outputs, teacher: Outputs) -> Tensor:
        return power_sum(teacher.logits, self.power) * super().each(student, teacher)
