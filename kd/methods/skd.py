"""Streamlined Knowledge Distillation (Jeong, Lee, Choi, CVPR 2026), https://github.com/HyunJunSik/StreamLined.

Hinton's term and one about directions: the cosines of the logits of all pairs of images in a batch, [B, B], should be
those of the teacher. An image's row of differences is measured by its Mahalanobis norm, with the covariance of the
batch's rows plus lambda on the diagonal. Costs a product of B^2 K and a few of B^3 operations: negligible beside the
networks. The term depends on the batch: with more images its rows are longer.

Variants:

- ``code``: the authors'. Cosines are divided by K, which makes the covariance small beside lambda. As in kd=mlkd, marks
  of the images and of the classes with the teacher's least confidence multiply finished scalars, so each term has a
  factor of about 1/2. The published numbers and weights are of this variant.
- ``paper``: both terms whole, cosines as they are. It follows the paper's abstract and torchdistill's form of the
  direction, not the paper's own equations.

A row of zeros has no direction: its cosines are 0, and it has no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch
from kd.methods.hinton import soft_label_kl
from kd.methods.mlkd import confidence_masks
from kd.methods.rkd import rows_of_length_one

VARIANTS = ("code", "paper")


def direction_loss(
    student_logits: Tensor, teacher_logits: Tensor, ridge: float | Tensor, divisor: float = 1.0
) -> Tensor:
    """Return mean_b sqrt(D_b' (cov(D) + ridge I)^-1 D_b), a scalar; D: the difference of the cosines, over divisor.

    Args:
        student_logits, teacher_logits: [B, K], B at least 2.
        ridge: the paper's lambda, above 0, a number or a scalar tensor.
    """
    own, given = (rows_of_length_one(logits) for logits in (student_logits, teacher_logits))
    # own own' - given given', without a difference of numbers that are nearly equal
    half = (own - given) @ (own + given).transpose(-1, -2) / 2
    apart = (half + half.transpose(-1, -2)) / divisor
    centred = apart - apart.mean(0)
    spread = centred.transpose(-1, -2) @ centred / (len(apart) - 1)
    whole = spread + ridge * torch.eye(len(apart), dtype=apart.dtype, device=apart.device)
    root = torch.linalg.cholesky_ex(whole)[0]  # cholesky itself waits for the device
    white = torch.linalg.solve_triangular(root, apart.transpose(-1, -2), upper=False)
    return torch.linalg.vector_norm(white, dim=0).mean()  # at 0 its gradient is 0, unlike a root's


class SKD(nn.Module):
    """Soft labels and directions.

    Args:
        temperature: T of the soft labels; directions have none.
        ridge: the paper's lambda, what the diagonal of the covariance gets.
        variant: "code" or "paper".
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 4.0, ridge: float | Tensor = 0.1, variant: str = "code"):
        super().__init__()
        for name, value in (("temperature", temperature), ("ridge", ridge)):
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"kd.{name} must be above 0, got {value}")
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.temperature, self.ridge, self.variant = temperature, ridge, variant

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits), "kd=skd")
        pair = student.logits, teacher.logits
        soft = soft_label_kl(*pair, self.temperature)
        if self.variant == "paper":
            return soft + direction_loss(*pair, self.ridge)
        images, classes = (mark.mean() for mark in confidence_masks(teacher.logits))
        return images * soft + classes * direction_loss(*pair, self.ridge, student.logits.shape[-1])
