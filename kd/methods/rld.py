"""Knowledge Distillation with Refined Logits (Sun, Chen, Lyu, Chen, Chen, Wang, ICCV 2025),
https://arxiv.org/abs/2408.07703.

A teacher that is wrong teaches the wrong class. RLD corrects it with the labels, in two parts. Sample confidence: the
student's probability of the label, against the rest, matches the teacher's largest probability, whatever class has it.
Masked correlation: student and teacher match on the classes that the teacher ranks below the label; the label, and all
that the teacher ranks above it or beside it, are left out. An image whose label is the teacher's last class has no
second part. Costs three softmaxes more than Hinton's term: negligible beside the networks.

The loss is not 0 where student and teacher agree, unless the teacher is right. The authors' code takes the logarithm of
a softmax, which is infinite in float32 where logits lie far apart at T = 1; here it is a log-sum-exp. In the code the
weight of the term rises from 1/20 over 20 epochs; here a schedule raises it from 0. With ``logit_stand`` both networks'
logits become z-scores first, as in kd=lskd. For a mixture of two images (mixup) the label is that of the image with the
larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise
from kd.methods.dkd import drop_target, target_kl_each
from kd.methods.hinton import soft_label_kl_each
from kd.methods.lskd import standardize
from kd.runtime.user_warnings import warn_user


def masked_kl_each(student_logits: Tensor, teacher_logits: Tensor, keep: Tensor, temperature: float | Tensor) -> Tensor:
    """Return T^2 KL(teacher || student) among the classes that are kept, of each image, [B]; 0 where none is.

    Args:
        student_logits, teacher_logits: [B, K]. keep: [B, K], bool. temperature: T > 0, a number or a scalar tensor.
    """
    none = ~keep.any(-1, keepdim=True)
    keep = keep | none  # a row without a class would be NaN: it is computed in full, and then set to 0
    own, given = (torch.where(keep, logits, -torch.inf) for logits in (student_logits, teacher_logits))
    log_q, log_p = (torch.log_softmax(logits / temperature, dim=-1) for logits in (own, given))
    plain = (log_p.exp() * torch.where(keep, log_p - log_q, 0)).sum(-1, keepdim=True)
    apart = torch.where(keep, student_logits - teacher_logits, 0)
    value = _precise.kl(apart, given, temperature, plain)
    each = _precise.with_value(temperature**2 * value, temperature**2 * plain)
    return torch.where(none, 0, each).squeeze(-1)


def refined_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float | Tensor,
    confidence_temperature: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Return (sample confidence, masked correlation), scalars with T^2 in them: mean over B.

    Args:
        student_logits, teacher_logits: [B, K]. target: [B], int64.
        temperature: T of the masked correlation. confidence_temperature: T of the sample confidence.
    """
    top = teacher_logits.argmax(-1)
    others = soft_label_kl_each(
        drop_target(student_logits, target), drop_target(teacher_logits, top), confidence_temperature
    )
    confidence = target_kl_each(student_logits, teacher_logits, target, top, confidence_temperature, others)
    below = teacher_logits < teacher_logits.gather(-1, target[:, None])
    correlation = masked_kl_each(student_logits, teacher_logits, below, temperature)
    return confidence.mean(), correlation.mean()


class RLD(nn.Module):
    """``confidence * sample confidence + correlation * masked correlation``.

    Args:
        temperature: T of the masked correlation.
        confidence_temperature: T of the sample confidence.
        confidence, correlation: the paper's alpha and beta, the weights of both parts.
        logit_stand: whether the logits become z-scores first.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(
        self,
        temperature: float | Tensor = 4.0,
        confidence_temperature: float | Tensor = 1.0,
        confidence: float | Tensor = 1.0,
        correlation: float | Tensor = 8.0,
        logit_stand: bool = False,
    ):
        super().__init__()
        for name, value in (("temperature", temperature), ("confidence_temperature", confidence_temperature)):
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"kd.{name} must be above 0, got {value}")
        weights = {"confidence": confidence, "correlation": correlation}
        for name, weight in weights.items():
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {weight}")
        if not any(isinstance(weight, Tensor) or weight for weight in weights.values()):
            raise ValueError("kd.confidence and kd.correlation are both 0: there is nothing to learn from the teacher")
        self.temperature, self.confidence_temperature = temperature, confidence_temperature
        self.confidence, self.correlation = confidence, correlation
        self.logit_stand = logit_stand

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        if student.logits.shape[-1] == 2 and self.logit_stand:
            warn_user(
                "RLD with kd.logit_stand and two classes: the z-scores of two logits are always 0.71 and -0.71, so the "
                "student learns from the labels alone. kd.logit_stand=false works with two classes"
            )
        elif student.logits.shape[-1] == 2:
            warn_user(
                "RLD with two classes: at most one class is below the label, so the masked correlation is 0 and has no "
                "gradient. kd.correlation and kd.temperature have no effect; kd.confidence has"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        pair = student.logits, teacher.logits
        if self.logit_stand:
            pair = tuple(map(standardize, pair))
        confidence, correlation = refined_kl(*pair, batch.target, self.temperature, self.confidence_temperature)
        return self.confidence * confidence + self.correlation * correlation
