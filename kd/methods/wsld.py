"""Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective (Zhou, Song, Chen, Zhou,
Wang, Yuan, Zhang 2021), https://arxiv.org/abs/2102.00650.

Weighted soft labels: an image has weight 1 - exp(-CE_student / CE_teacher), with the cross entropies with the label at
T = 1. If the student is already more confident in the label than the teacher, the image hardly counts; if the teacher
is far more confident, it counts fully. Costs two softmaxes more than Hinton's term: negligible beside the networks.

As in the authors' code the weight has no gradient, 1e-7 is added to its divisor, and the soft term is a cross entropy:
its gradient is that of KL, its value is not 0 where student and teacher agree. For a mixture of two images (mixup) the
label is that of the image with the larger share.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs

EPS = 1e-7  # the authors'


def share_of_images(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Return the weight of each image, in [0, 1] and without gradient: [B, K], [B, K], [B] -> [B]."""
    student, teacher = (
        F.cross_entropy(logits.detach(), target, reduction="none") for logits in (student_logits, teacher_logits)
    )
    return -torch.expm1(-student / (teacher + EPS))


def weighted_soft_labels(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float | Tensor
) -> Tensor:
    """Return T^2 mean_b w_b [-sum_k p_teacher log p_student], both softmaxes at T, a scalar.

    Args:
        student_logits, teacher_logits: [B, K]. target: [B], int64. temperature: T > 0, a number or a scalar tensor.
    """
    student = torch.log_softmax(student_logits / temperature, dim=-1)
    teacher = torch.softmax(teacher_logits / temperature, dim=-1)
    soft = -(teacher * student).sum(-1)
    return temperature**2 * (share_of_images(student_logits, teacher_logits, target) * soft).mean()


class WSLD(nn.Module):
    """Soft labels, weighted image by image.

    Args:
        temperature: T of the soft labels.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 2.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return weighted_soft_labels(student.logits, teacher.logits, batch.target, self.temperature)
