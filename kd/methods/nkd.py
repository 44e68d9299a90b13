"""From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized
Soft Labels (Yang, Zeng, Li, Zhang, Yuan, Li 2023), https://arxiv.org/abs/2303.13005: its NKD.

The loss has two parts. The first is the log-probability of the target at T = 1, weighted with the teacher's probability
of the target. The second matches the other K - 1 classes at T, normalised among themselves so that they sum to 1 for
both networks. Both are cross entropies, so the value contains the teacher's entropy and is not 0 where student and
teacher agree. Costs two softmaxes more than Hinton's term: negligible beside the networks.

The published code first kept the target among the others (until its commit 9466b3f, 1 to 7 % of the value); here it is
left out, as in the paper. The cross entropy with the labels is a separate term. For a mixture of two images (mixup) the
target is that of the image with the larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import drop_target
from kd.runtime.user_warnings import warn_user


def normalized_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float | Tensor,
    nontarget: float | Tensor,
) -> Tensor:
    """Return the mean over B of -p_teacher log p_student - nontarget T^2 sum_k q_teacher log q_student, a scalar.

    p is the target's probability at T = 1, q the softmax over the other K - 1 classes at T.

    Args:
        student_logits, teacher_logits: [B, K]. target: [B], int64.
        temperature, nontarget: T > 0 and the paper's gamma, numbers or scalar tensors.
    """
    student, teacher = (
        torch.log_softmax(logits, dim=-1).gather(-1, target[:, None]).squeeze(-1)
        for logits in (student_logits, teacher_logits)
    )
    student_rest, teacher_rest = (
        torch.log_softmax(drop_target(logits, target) / temperature, dim=-1)
        for logits in (student_logits, teacher_logits)
    )
    rest = (teacher_rest.exp() * student_rest).sum(-1)
    return -(teacher.exp() * student + nontarget * temperature**2 * rest).mean()


class NKD(nn.Module):
    """Normalised distillation.

    Args:
        temperature: T of the classes other than the target.
        nontarget: the paper's gamma, the weight of these classes; the target has weight 1.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 1.0, nontarget: float | Tensor = 1.5):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(nontarget, Tensor) and not nontarget >= 0:
            raise ValueError(f"kd.nontarget must not be negative, got {nontarget}")
        self.temperature = temperature
        self.nontarget = nontarget

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        if student.logits.shape[-1] == 2:
            warn_user(
                "NKD with two classes: there is one class beside the target, so the non-target part is 0 and has no "
                "gradient. kd.nontarget and kd.temperature have no effect; the temperature of kd=hinton has"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return normalized_kd(student.logits, teacher.logits, batch.target, self.temperature, self.nontarget)
