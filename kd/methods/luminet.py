"""LumiNet: Perception-Driven Knowledge Distillation via Statistical Logit Calibration (Hossain, Elahi, Ramasinghe,
Cheraghian, Rahman, Mohammed, Rahman 2023), https://arxiv.org/abs/2310.03669.

The logits of each class become z-scores over the batch, in student and teacher each on their own; then Hinton's term at
T with alpha^2 in place of T^2. So an image is described by how much more than the other images of the batch it looks
like each class. Costs a mean and a deviation a class: negligible beside the networks.

The gradient runs through the statistics of the student, which are those of one batch in one process: a small
train.batch_size makes them noisy. As published the variance is the biased one and 1e-5 is added to it, so the gradient
grows up to about 300 times where the student answers alike to all images. In the code the weight of the term rises from
1/20 over 20 epochs; here a schedule raises it from 0.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch
from kd.methods.hinton import soft_label_kl_each

EPS = 1e-5  # the authors'


def calibrate(logits: Tensor, eps: float = EPS) -> Tensor:
    """Return the z-scores of each class over the batch, (z - mean_b) / sqrt(var_b + eps): [B, K] -> [B, K]."""
    centred = logits - logits.mean(-2, keepdim=True)
    return centred / (centred.square().mean(-2, keepdim=True) + eps).sqrt()


def calibrated_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, scale: float | Tensor
) -> Tensor:
    """Return scale^2 mean_b KL(teacher_b || student_b) of the z-scores by class at T, a scalar: summed over K.

    Args:
        student_logits, teacher_logits: [B, K], B > 1. temperature, scale: above 0, numbers or scalar tensors.
    """
    pair = [calibrate(logits) / temperature for logits in (student_logits, teacher_logits)]
    return scale**2 * soft_label_kl_each(*pair, 1.0).mean()


class LumiNet(nn.Module):
    """Soft labels of z-scores by class.

    Args:
        temperature: T of both softmaxes.
        scale: the paper's alpha; the term has its square where Hinton's has T^2.
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 4.0, scale: float | Tensor = 33.0):
        super().__init__()
        for name, value in {"temperature": temperature, "scale": scale}.items():
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"kd.{name} must be above 0, got {value}")
        self.temperature = temperature
        self.scale = scale

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits), "kd=luminet")
        return calibrated_kl(student.logits, teacher.logits, self.temperature, self.scale)
