"""Knowledge Distillation from A Stronger Teacher (Huang, You, Wang, Qian, Xu 2022), https://arxiv.org/abs/2205.10536.

DIST asks for correlation instead of equality, so that a student can follow a teacher that is far more confident than
the student can be. Two parts: inter, 1 - Pearson's correlation of the probabilities of an image; intra, the same for
the probabilities of a class over the batch, which is less noisy with a larger batch. Costs a few passes over [B, K]:
negligible beside the networks.

The authors' classification code and its ports multiply by T^2; the paper does not, and at T = 1 both are equal. The
code also adds 1e-8 to the product of the norms. This matters where probabilities are almost uniform (many classes, a
high T): the loss of a student that equals its teacher is then not exactly 0. The gradient grows like 1 / the spread of
the student's probabilities, up to about 1e7: with a classifier that starts at zero, set train.student.clip_norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise
from kd.methods._common import check_batch
from kd.runtime.user_warnings import warn_user

EPS = 1e-8  # the authors'


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Return Pearson's correlation along the last dimension: [..., N], [..., N] -> [...]; 0 if one is constant."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    return (x * y).sum(-1) / (norms + EPS)


@torch.no_grad()
def distance(x: Tensor, y: Tensor) -> Tensor:
    """Return 1 - correlation(x, y) without gradient; computed so that rounding cannot make it negative."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    lengths = [torch.linalg.vector_norm(z, dim=-1, keepdim=True) for z in (x, y)]
    directions = [z / torch.where(length > 0, length, 1) for z, length in zip((x, y), lengths, strict=True)]
    product = (lengths[0] * lengths[1]).squeeze(-1)
    return (product * (directions[0] - directions[1]).square().sum(-1) / 2 + EPS) / (product + EPS)


def _finer(probabilities: Tensor, beside: Tensor) -> Tensor:
    """Choose for each class the column with the smaller numbers; both forms differ by a constant. All [B, K]."""
    return torch.where(beside.abs().amax(0) < probabilities.amax(0), beside, probabilities)


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor,
    inter: float | Tensor = 1.0,
    intra: float | Tensor = 1.0,
) -> Tensor:
    """Return T^2 [inter (1 - mean_b corr of row b) + intra (1 - mean_k corr of column k)], a scalar.

    Args:
        student_logits, teacher_logits: [B, K], B > 1: in a batch of one no column has a correlation.
        temperature, inter, intra: T > 0 and two weights, numbers or scalar tensors.
    """
    pair = student_logits, teacher_logits
    student, teacher = ((logits / temperature).softmax(-1) for logits in pair)
    rows = 1 - correlation(student, teacher).mean()
    columns = 1 - correlation(student.mT, teacher.mT).mean()
    beside = [_precise.centred_softmax(logits, temperature) for logits in pair]
    by_class = [_finer(*forms).mT for forms in zip((student, teacher), beside, strict=True)]
    apart = inter * distance(*beside).mean() + intra * distance(*by_class).mean()
    return _precise.with_value(temperature**2 * apart, temperature**2 * (inter * rows + intra * columns))


class DIST(nn.Module):
    """``dist``: correlations between classes and within them.

    Args:
        temperature: T of both softmaxes.
        inter: the paper's beta, the weight of the correlation of an image's probabilities.
        intra: the paper's gamma, the weight of the correlation of a class's probabilities over the batch.
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 1.0, inter: float | Tensor = 1.0, intra: float | Tensor = 1.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        for name, weight in {"inter": inter, "intra": intra}.items():
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {weight}")
        if not any(isinstance(weight, Tensor) or weight for weight in (inter, intra)):
            raise ValueError("kd.inter and kd.intra are both 0: there is nothing to learn from the teacher")
        self.temperature = temperature
        self.inter = inter
        self.intra = intra

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""
        if student.logits.shape[-1] == 2:
            warn_user(
                "DIST with two classes: the correlation of two pairs that sum to 1 is always 1 or -1, so the inter "
                "part has no gradient. kd.inter has no effect; kd.intra has"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits), "kd=dist")
        return dist(student.logits, teacher.logits, self.temperature, self.inter, self.intra)
