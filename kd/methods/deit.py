"""Training data-efficient image transformers & distillation through attention (Touvron et al. 2021),
https://arxiv.org/abs/2012.12877.

Hard distillation: the class that the teacher predicts is a label, ``CE(student, argmax teacher)``, weighted as the true
label is: (1 - alpha) CE(class head, y) + alpha CE(distillation head, argmax teacher), alpha = 1/2 in the paper.

A student of timm with a distillation token or a distillation head (``deit_tiny_distilled_patch16_224``, LeViT, RepViT,
EfficientFormer and others) has two heads. In training each learns its own label; evaluated is the mean of both, as in
timm (the paper adds their softmaxes). Any other student learns both labels with its one head: the paper's hard
distillation without token, which was better than soft labels there. Costs an argmax.

Soft distillation, which the paper compares with, takes T^2 KL(teacher || student) in place of the predicted class, with
alpha = 0.1 and T = 3: ``kd=deit_soft``. For a student with one head that is ``kd=hinton``; here it may have two, and
the KL is summed over classes; the authors' code divides it by their number.

The paper does not smooth the teacher's label. A mixture of two images (mixup) has one: the class that the teacher
predicts for the mixture.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods.hinton import soft_label_kl
from kd.methods.supervised import cross_entropy


def hard_distillation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the cross entropy with the teacher's predicted class, a scalar: mean over B.

    Args:
        student_logits, teacher_logits: [B, K].
    """
    return cross_entropy(student_logits, teacher_logits.argmax(-1))


class _TwoHeads(nn.Module):
    """A term of the student's distillation head, or of its one head."""

    needs = frozenset({"logits"})

    def bind(self, context: Context) -> None:
        """Train the two heads of a distilled network of timm apart, which it does not do by itself."""
        for module in context.student.modules():
            if hasattr(module, "set_distilled_training"):
                module.set_distilled_training(True)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.loss(student.heads[1] if student.heads else student.logits, teacher.logits)


class HardDistillation(_TwoHeads):
    """``hard_distillation`` of the student's distillation head, or of its one head."""

    def __init__(self):  # it has no settings; torch's own takes any
        super().__init__()

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return hard_distillation(student_logits, teacher_logits)


class SoftDistillation(_TwoHeads):
    """``soft_label_kl`` of the student's distillation head, or of its one head."""

    def __init__(self, temperature: float | Tensor = 3.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return soft_label_kl(student_logits, teacher_logits, self.temperature)
