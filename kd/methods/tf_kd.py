"""Revisiting Knowledge Distillation via Label Smoothing Regularization (Yuan, Tay, Li, Wang, Feng, CVPR 2020),
https://arxiv.org/abs/1909.11723: its Tf-KD with a designed teacher (Tf-KD_reg).

There is no teacher. In its place stands a distribution made from the label: u has ``correct`` on the label and the rest
evenly on the other classes, and the target is softmax(u / T). The softmax is of the probabilities u, which lie between
0 and 1, and not of their logarithms: at T = 20 the target is uniform but for a factor of 1.05 for the label. So the
term holds back sure answers; the label itself reaches the student by the cross entropy beside it. The student's softmax
has T = 1, as in the authors' code. Costs nothing.

The authors' code divides by the number of classes K and multiplies by a number, 100 for ResNet-18 on the 100 classes of
CIFAR-100, where both cancel. Here neither is done. Their (alpha, multiplier) is ``hard = 1 - alpha`` and
``weight = alpha multiplier / K`` here. For a mixture of two images (mixup) the label is that of the image with the
larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl


def designed_logits(
    like: Tensor, target: Tensor, temperature: float | Tensor, correct: float | Tensor = 0.99
) -> Tensor:
    """Return u / T, [B, K], whose softmax is the designed teacher's answer.

    Args:
        like: [B, K], of the dtype and device to return. target: [B], int64.
        temperature: T > 0. correct: the part of u on the label. Numbers or scalar tensors.
    """
    classes = like.shape[-1]
    label = (torch.arange(classes, device=like.device) == target[:, None]).to(like.dtype)
    return (correct * label + (1 - correct) / (classes - 1) * (1 - label)) / temperature


def designed_kl(
    student_logits: Tensor, target: Tensor, temperature: float | Tensor, correct: float | Tensor = 0.99
) -> Tensor:
    """Return KL(softmax(u / T) || softmax(student)), a scalar: summed over K, mean over B; no T^2.

    Args:
        student_logits: [B, K]. target: [B], int64. temperature, correct: as in ``designed_logits``.
    """
    return soft_label_kl(student_logits, designed_logits(student_logits, target, temperature, correct), 1.0)


class TfKD(nn.Module):
    """``designed_kl`` of the student's logits.

    Args:
        temperature: T of the designed teacher alone.
        correct: in (0, 1], what its u has on the label.
    """

    needs: frozenset[str] = frozenset()
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 20.0, correct: float | Tensor = 0.99):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(correct, Tensor) and not 0 < correct <= 1:
            raise ValueError(f"kd.correct is a probability of the label and must lie in (0, 1], got {correct}")
        self.temperature, self.correct = temperature, correct

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build.

        Raises:
            ValueError: a single class.
        """
        classes = student.logits.shape[-1]
        if classes < 2:
            raise ValueError(f"kd=tf_kd spreads probability over classes beside the label, and there are {classes}")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return designed_kl(student.label_logits, batch.target, self.temperature, self.correct)
