"""NormKD: Normalized Logits for Knowledge Distillation (Chi, Zheng, Li, Yang, Wu, Lin, Cai 2023),
https://arxiv.org/abs/2308.00520.

Hinton's term with a temperature for each image and each network: a stated number of standard deviations of its logits.
The loss of an image is multiplied by the square of the teacher's temperature, so an image counts more the larger the
spread of the teacher's logits; kd=lskd weighs all images alike. The DKD form is DKD on the divided logits, with the
same square. Costs two standard deviations a row besides Hinton's term or DKD: negligible beside the networks.

As published, the standard deviation divides by K - 1 and the gradient runs through the student's. The authors' code
divides by 0 where all logits of an image are equal, as in a classifier that starts at zero; here a deviation below
0.001 counts as 0.001. For a mixture of two images (mixup) the target of the DKD form is that of the image with the
larger share.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.dkd import DKD, decoupled_kl_each
from kd.methods.hinton import soft_label_kl_each
from kd.runtime.user_warnings import warn_user

LEAST = 1e-3  # the standard deviation of a row counts as at least this


def own_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``temperature`` standard deviations of each row: [B, K] -> [B, 1]."""
    return temperature * logits.std(-1, keepdim=True).clamp_min(LEAST)


def divided(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the centred logits over the temperature of their row, [B, K]; a softmax does not see the centring."""
    return (logits - logits.mean(-1, keepdim=True)) / own_temperature(logits, temperature)


def normalized_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return mean_b T_b^2 KL(teacher_b || student_b), a scalar; each softmax at its own T, T_b is the teacher's.

    Args:
        student_logits, teacher_logits: [B, K]. temperature: above 0, in standard deviations; a number or a scalar
            tensor.
    """
    pair = [divided(logits, temperature) for logits in (student_logits, teacher_logits)]
    square = own_temperature(teacher_logits, temperature).squeeze(-1) ** 2
    return (square * soft_label_kl_each(*pair, 1.0)).mean()


def normalized_decoupled_kl(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return DKD's (TCKD, NCKD) of the divided logits, scalars: each image times the square of the teacher's T.

    Args:
        student_logits, teacher_logits: [B, K]. target: [B], int64. temperature: in standard deviations.
    """
    pair = [divided(logits, temperature) for logits in (student_logits, teacher_logits)]
    square = own_temperature(teacher_logits, temperature).squeeze(-1) ** 2
    tckd, nckd = decoupled_kl_each(*pair, target, 1.0)
    return (square * tckd).mean(), (square * nckd).mean()


def _warn_two_classes(student: Outputs) -> None:
    if student.logits.shape[-1] == 2:
        warn_user(
            "NormKD with two classes: two logits over their standard deviation always differ by 1.41, so the student "
            "learns from the labels alone. kd=hinton works with two classes"
        )


class NormKD(nn.Module):
    """Soft labels at a temperature for each image and network.

    Args:
        temperature: T in standard deviations of the logits of an image.
    """

    needs = frozenset({"logits"})
    scales_logits = True  # the temperature is in standard deviations, so that of the plain logits differs by image

    def __init__(self, temperature: float | Tensor = 2.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        _warn_two_classes(student)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return normalized_kl(student.logits, teacher.logits, self.temperature)


class NormDKD(DKD):
    """DKD at a temperature for each image and network.

    Args:
        temperature: T in standard deviations of the logits of an image.
        target, nontarget: weights of TCKD and NCKD.
    """

    scales_logits = True

    def __init__(
        self, temperature: float | Tensor = 2.0, target: float | Tensor = 1.0, nontarget: float | Tensor = 8.0
    ):
        super().__init__(temperature, target, nontarget)

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        _warn_two_classes(student)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        tckd, nckd = normalized_decoupled_kl(student.logits, teacher.logits, batch.target, self.temperature)
        return self.target * tckd + self.nontarget * nckd
