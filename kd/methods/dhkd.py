"""Dual-Head Knowledge Distillation (Yang, Zong, Huang, Feng, An 2024), https://arxiv.org/abs/2411.08937.

Labels and the teacher's logits as numbers contradict each other in one classifier. So the student has two while it
trains: its own learns the labels, and a second head on its embedding learns the logits. Only the first is deployed. The
second head's loss takes each class by itself: with u = (student - teacher) / T and the sigmoid s(u), it is
T^2 KL([1/2, 1/2] || [s(u), 1 - s(u)]) = T^2 log cosh(u / 2), summed over classes, averaged over the batch. It is 0
where the logits agree; a shift of all logits of an image counts.

Both losses train the layers below the heads. Where their gradients there point against each other, the part of the
second one along the first is taken out before the step (``align="shared"``), as PCGrad does for one of two tasks. The
authors' code (https://github.com/penghui-yang/DHKD) computes that part over all parameters (``align="all"``): the
labels' head makes the labels' gradient longer, so less is taken out, and where gradients conflict that head takes
larger steps. ``align="none"`` adds both gradients. Costs the second head in training, and a second backward pass unless
nothing is aligned.

The code clamps s(u) to [1e-8, 1 - 1e-8], which in float32 is 1 above and so infinite for logits that lie far apart;
here nothing is clamped. The second head is the authors' for CIFAR-100: a linear layer, dropout, batch norm and a ReLU
before the classifier; ``hidden=0`` leaves the classifier alone, as for ImageNet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch

ALIGN = ("shared", "all", "none")
Gradients = dict[nn.Parameter, Tensor]


def log_cosh(x: Tensor) -> Tensor:
    """Return log cosh x, finite and precise for any x, as is its gradient."""
    is_near = x.abs() < 1
    near, far = torch.where(is_near, x, torch.zeros_like(x)), torch.where(is_near, torch.ones_like(x), x.abs())
    close = torch.log1p(2 * torch.sinh(near / 2).square())
    return torch.where(is_near, close, far + torch.log1p(torch.exp(-2 * far)) - math.log(2))


def binary_kl_norm(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return T^2 KL([1/2, 1/2] || [s(u), 1 - s(u)]), a scalar: summed over K, mean over B; u as above.

    Args:
        student_logits, teacher_logits: [B, K]. temperature: T > 0.
    """
    u = (student_logits - teacher_logits) / temperature
    return temperature**2 * log_cosh(u / 2).sum(-1).mean()


def aligned(labels: Gradients, rest: Gradients, whole: bool = False) -> Gradients:
    """Return ``rest`` without its part along ``labels``, where the two point against each other.

    Args:
        labels, rest: gradients by parameter. Only parameters that have both are compared.
        whole: take the length of all of ``labels``, and subtract that part from every parameter of it.
    """
    shared = [p for p in labels if p in rest]
    if not shared:
        return rest
    changed = list(labels) if whole else shared
    along = torch.stack([(labels[p] * rest[p]).sum() for p in shared]).sum()
    length = torch.stack([labels[p].square().sum() for p in changed]).sum()
    part = along.clamp(max=0) / length.clamp(min=torch.finfo(length.dtype).tiny)  # 0 where nothing conflicts
    found = {p: rest[p] - part * labels[p] if p in rest else -part * labels[p] for p in changed}
    return {**rest, **found}


class DHKD(nn.Module):
    """``binary_kl_norm`` of a second head on the student's embedding.

    Args:
        temperature: T. align: "shared", "all" or "none".
        hidden: width of the second head's hidden layer; 0: it is linear. dropout: of that layer, in [0, 1).
    """

    needs = frozenset({"logits"})
    student_needs = frozenset({"embedding"})

    def __init__(
        self, temperature: float | Tensor = 2.0, align: str = "shared", hidden: int = 200, dropout: float = 0.1
    ):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if align not in ALIGN:
            raise ValueError(f"kd.align must be one of {', '.join(ALIGN)}, got {align!r}")
        if hidden < 0:
            raise ValueError(f"kd.hidden is a width, and 0 leaves the layer out, got {hidden}")
        if not 0 <= dropout < 1:
            raise ValueError(f"kd.dropout must lie in [0, 1), got {dropout}")
        self.temperature, self.how, self.hidden, self.dropout = temperature, align, hidden, dropout
        self.aligns = align != "none"  # see kd.train.apart

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the second head."""
        width, classes = student.embedding.shape[-1], student.logits.shape[-1]
        if not self.hidden:
            self.head = nn.Linear(width, classes)
            return
        hidden = [nn.Linear(width, self.hidden), nn.Dropout(self.dropout), nn.BatchNorm1d(self.hidden), nn.ReLU()]
        self.head = nn.Sequential(*hidden, nn.Linear(self.hidden, classes))

    def align(self, labels: Gradients, rest: Gradients) -> Gradients:
        """Return the gradients that are used beside those of the labels: see ``aligned``."""
        return aligned(labels, rest, self.how == "all")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        if self.hidden:
            check_batch(len(student.embedding), "the second head of kd=dhkd")
        return binary_kl_norm(self.head(student.embedding), teacher.logits, self.temperature)
