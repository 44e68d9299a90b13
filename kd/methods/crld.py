"""Cross-View Consistency Regularisation (Zhang, Liu, Cai, Ma, ACM MM 2024), https://arxiv.org/abs/2412.16493.

Student and teacher see a weak and a strong view of each image. Within a view the student learns the teacher's soft
labels of that view (Hinton's term). Across views it learns, from the strong view, what the teacher says of the weak
one, and the other way round. An image counts only where the teacher is sure: within views by its largest probability
(at T = 1) on the weak view, across views by that on the strong one, where the published threshold is low. Sums are
divided by the number of all images, sure or not, as in the published code.

Costs a second forward and backward pass of the student in each step, and no teacher where its logits are cached.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import two_views
from kd.methods.hinton import soft_label_kl_each

Pair = tuple[Tensor, Tensor]


def within_views(weak: Pair, strong: Pair, temperature: float | Tensor, threshold: float | Tensor) -> Tensor:
    """Return mean_b m_b [k(student weak, teacher weak) + k(student strong, teacher strong)], a scalar.

    k is T^2 KL(teacher || student) of an image, and m is 1 where the teacher is sure of the weak view.

    Args:
        weak, strong: logits of student and teacher, [B, K] each, on the two views.
        threshold: least of the teacher's largest probability.
    """
    each = soft_label_kl_each(*weak, temperature) + soft_label_kl_each(*strong, temperature)
    return (sure(weak[1], threshold) * each).mean()


def across_views(weak: Pair, strong: Pair, temperature: float | Tensor, threshold: float | Tensor) -> Tensor:
    """Return mean_b m_b [k(student strong, teacher weak) + k(student weak, teacher strong)], a scalar.

    As ``within_views``; m is 1 where the teacher is sure of the strong view.
    """
    each = soft_label_kl_each(strong[0], weak[1], temperature) + soft_label_kl_each(weak[0], strong[1], temperature)
    return (sure(strong[1], threshold) * each).mean()


def sure(teacher_logits: Tensor, threshold: float | Tensor) -> Tensor:
    """Return 1 where the largest probability is at least ``threshold``, else 0: [B, K] -> [B]."""
    return (torch.softmax(teacher_logits, -1).amax(-1) >= threshold).to(teacher_logits.dtype)


class _Views(nn.Module):
    needs = frozenset({"logits"})
    views = 2
    second_augment = True

    def __init__(self, temperature: float | Tensor = 4.0, threshold: float | Tensor = 0.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(threshold, Tensor) and not 0 <= threshold <= 1:
            raise ValueError(f"kd.{self.named} is a probability and must lie in [0, 1], got {threshold}")
        self.temperature, self.threshold = temperature, threshold

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        weak, strong = two_views(student, teacher, batch, "kd=crld")
        return self.loss(weak, strong, self.temperature, self.threshold)


class WithinViews(_Views):
    """The teacher's soft labels of each view for the same view."""

    named, loss = "weak_threshold", staticmethod(within_views)


class AcrossViews(_Views):
    """The teacher's soft labels of each view for the other one."""

    named, loss = "strong_threshold", staticmethod(across_views)
