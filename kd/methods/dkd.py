"""Decoupled Knowledge Distillation (Zhao, Cui, Song, Qiu, Liang 2022), https://arxiv.org/abs/2203.08679.

Hinton's term is a sum of two parts (all at temperature T, p of the target, q of the other K - 1 classes among
themselves): T^2 KL = TCKD + (1 - p_teacher) NCKD, TCKD = T^2 KL([p, 1 - p]), NCKD = T^2 KL(q). So a confident teacher
suppresses what it knows about the other classes; in DKD each part has its own weight. Costs two softmaxes more than
Hinton's term: negligible beside the networks.

The authors' code takes the logarithm of a softmax, which is infinite in float32 where logits lie far apart at T = 1,
and excludes the target by subtracting 1000. Here both are exact: log-sum-exp, and the target's column is removed. In
the code the weight of the term rises from 1/20 over 20 epochs; here a schedule raises it from 0. For a mixture of two
images (mixup) the target is that of the image with the larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl_each
from kd.runtime.user_warnings import warn_user


def drop_target(logits: Tensor, target: Tensor) -> Tensor:
    """Remove each image's target: [B, K], [B] -> [B, K - 1]."""
    place = torch.arange(logits.shape[-1] - 1, device=logits.device)
    return logits.gather(-1, place + (place >= target[:, None]))


def target_or_not(logits: Tensor, target: Tensor, temperature: float | Tensor) -> Tensor:
    """Return two logits whose softmax at T is [p, 1 - p] of the target: [B, K], [B] -> [B, 2]."""
    rest = temperature * torch.logsumexp(drop_target(logits, target) / temperature, dim=-1)
    return torch.stack([logits.gather(-1, target[:, None]).squeeze(-1), rest], dim=-1)


def target_kl_each(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_class: Tensor,
    teacher_class: Tensor,
    temperature: float | Tensor,
    others: Tensor,
) -> Tensor:
    """Return T^2 KL([p, 1 - p]) of each image, [B]; p: the probability of one class, which may differ by network.

    Args:
        student_logits, teacher_logits: [B, K]. student_class, teacher_class: [B], int64.
        others: [B], ``soft_label_kl_each`` of the other K - 1 classes.
    """
    own, given = drop_target(student_logits, student_class), drop_target(teacher_logits, teacher_class)
    pairs = [
        target_or_not(logits, place, temperature)
        for logits, place in ((student_logits, student_class), (teacher_logits, teacher_class))
    ]
    # T logsumexp(z / T) is large at a large T, and its rounding hides the difference of two of them, which others has
    rest = ((given / temperature).softmax(-1) * (own - given)).sum(-1) + others / temperature
    apart = torch.stack([pairs[0][:, 0] - pairs[1][:, 0], rest], dim=-1)
    return soft_label_kl_each(*pairs, temperature, apart)


def decoupled_kl_each(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return (TCKD, NCKD) of each image, [B] and [B], with T^2 in them: summed over classes."""
    own, given = drop_target(student_logits, target), drop_target(teacher_logits, target)
    nckd = soft_label_kl_each(own, given, temperature)
    return target_kl_each(student_logits, teacher_logits, target, target, temperature, nckd), nckd


def decoupled_kl(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return (TCKD, NCKD), scalars with T^2 in them: summed over classes, mean over B.

    Args:
        student_logits, teacher_logits: [B, K]. target: [B], int64. temperature: T > 0, a number or a scalar tensor.
    """
    tckd, nckd = decoupled_kl_each(student_logits, teacher_logits, target, temperature)
    return tckd.mean(), nckd.mean()


class DKD(nn.Module):
    """``target * TCKD + nontarget * NCKD``.

    Args:
        temperature: T of every softmax.
        target: the paper's alpha, the weight of TCKD (target or not).
        nontarget: the paper's beta, the weight of NCKD (which of the other classes).
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(
        self, temperature: float | Tensor = 4.0, target: float | Tensor = 1.0, nontarget: float | Tensor = 8.0
    ):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        for name, weight in {"target": target, "nontarget": nontarget}.items():
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {weight}")
        if not any(isinstance(weight, Tensor) or weight for weight in (target, nontarget)):
            raise ValueError("kd.target and kd.nontarget are both 0: there is nothing to learn from the teacher")
        self.temperature = temperature
        self.target = target
        self.nontarget = nontarget

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        if student.logits.shape[-1] == 2:
            warn_user(
                "DKD with two classes: there is one class beside the target, so the non-target part is 0 and has no "
                "gradient. kd.nontarget has no effect; the loss is kd.target times the term of kd=hinton"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        tckd, nckd = decoupled_kl(student.logits, teacher.logits, batch.target, self.temperature)
        return self.target * tckd + self.nontarget * nckd
