"""Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean 2015), https://arxiv.org/abs/1503.02531.

The term is T^2 KL(teacher || student), summed over classes and averaged over the batch, and alpha is its weight; other
implementations weight it differently under the same name. T^2 keeps the size of the gradient about the same when T
changes. Costs one softmax over the teacher's logits: negligible beside the networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise


def soft_label_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), a scalar: summed over K, mean over B.

    Args:
        student_logits, teacher_logits: [B, K].
        temperature: T > 0, a number, a tensor of one, or [B, 1] for one T an image.
    """
    return soft_label_kl_each(student_logits, teacher_logits, temperature).mean()


def soft_label_kl_each(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, apart: Tensor | None = None
) -> Tensor:
    """Return ``soft_label_kl`` of each image, [B].

    Args:
        apart: [B, K], the student's logits minus the teacher's, if the caller knows it more precisely than by
            subtraction.
    """
    # written out, because F.kl_div has no batching rule, and vmap trains a stack of students
    student = torch.log_softmax(student_logits / temperature, dim=-1)
    teacher = torch.log_softmax(teacher_logits / temperature, dim=-1)
    plain = (teacher.exp() * (teacher - student)).sum(-1, keepdim=True)
    apart = student_logits - teacher_logits if apart is None else apart
    value = _precise.kl(apart, teacher_logits, temperature, plain)
    return _precise.with_value(temperature**2 * value, temperature**2 * plain).squeeze(-1)


class Hinton(nn.Module):
    """The soft-label term at one temperature."""

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 4.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return soft_label_kl(student.logits, teacher.logits, self.temperature)
