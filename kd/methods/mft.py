"""Minifinetuning: Low-Data Generation Domain Adaptation through Corrective Self-Distillation (Belcak, Heinrich, Kautz,
Molchanov 2025), https://arxiv.org/abs/2506.15702.

Soft labels, mixed with the label until the label leads: the target is (1 - mix) p_teacher + mix label. Where the
teacher is wrong, mix is such that the label has ``threshold`` more probability than the teacher's answer; where it is
right, the label gains ``threshold``, or all that is left. So the labels reach the student by way of the teacher, and no
cross entropy stands beside the term. The paper adapts a language model, and its teacher is the model as it was before;
here it is any teacher of images. Costs no more than Hinton's term.

Values agree with the implementation in NVIDIA's Model Optimizer, which adds 1e-7 to the divisors of mix and multiplies
by T^2. Here 1 - mix and the logarithms of the target are computed without subtraction, so that a sure teacher costs no
digits. The loss is not 0 where student and teacher agree. For a mixture of two images (mixup) the label is that of the
image with the larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import drop_target
from kd.methods.hinton import soft_label_kl

EPS = 1e-7  # Model Optimizer's


def corrected(teacher_logits: Tensor, target: Tensor, threshold: float | Tensor, temperature: float | Tensor) -> Tensor:
    """Return the logarithm of the target distribution, [B, K].

    Args:
        teacher_logits: [B, K]. target: [B], int64. threshold: in [0, 1]. temperature: T > 0. Numbers or scalar tensors.
    """
    target = target[:, None]
    log_p = torch.log_softmax(teacher_logits / temperature, dim=-1)
    label, top = log_p.gather(-1, target).exp(), log_p.amax(-1, keepdim=True).exp()
    others = drop_target(log_p, target[:, 0]).exp().sum(-1, keepdim=True)  # 1 - label
    of_wrong = (1 - threshold + EPS) / (1 + top - label + EPS)
    of_right = ((others - threshold).clamp_min(0) + EPS) / (others + EPS)
    left = torch.where(log_p.argmax(-1, keepdim=True) == target, of_right, of_wrong)  # 1 - mix
    place = torch.arange(log_p.shape[-1], device=log_p.device)
    return torch.where(place == target, torch.log1p(-left * others), left.log() + log_p)


def corrected_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    threshold: float | Tensor,
    temperature: float | Tensor,
) -> Tensor:
    """Return T^2 mean_b KL(corrected teacher || student), a scalar; both softmaxes at T, summed over K."""
    log_target = corrected(teacher_logits, target, threshold, temperature)
    return soft_label_kl(student_logits, temperature * log_target, temperature)


class MFT(nn.Module):
    """Soft labels of a teacher that is corrected with the labels.

    Args:
        temperature: T of both softmaxes.
        threshold: in [0, 1], by how much probability the label must lead, or gains.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 1.0, threshold: float | Tensor = 0.2):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(threshold, Tensor) and not 0 <= threshold <= 1:
            raise ValueError(f"kd.threshold is a difference of probabilities and must lie in [0, 1], got {threshold}")
        self.temperature = temperature
        self.threshold = threshold

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return corrected_kl(student.logits, teacher.logits, batch.target, self.threshold, self.temperature)
