"""Local Dense Logit Relations for Enhanced Knowledge Distillation (Xu, Liu, Liu, Wang, Xu, Cheng, ICCV 2025),
https://arxiv.org/abs/2507.15911.

The classes of the student's k largest logits are compared pair by pair: T^2 KL of the two-class softmaxes of student
and teacher. The pair of ranks i < j has weight 2 exp(-decay (i + j)) / (1.5 + j - i), so that neighbours at the top
count most. The k classes together are one more comparison, of weight 1, and the local part is the mean over all
k (k - 1) / 2 + 1 of them. The remaining K - k classes are the rest. Costs a sort of the student's logits and 2 k^2
softmaxes of two classes an image: negligible beside the networks.

The labels are not used: the choice and order of the classes are the student's, and have no gradient. As in the authors'
code, with k = 2 the whole set is itself a pair and has the weight of a pair. With k classes or fewer in the data set,
all are compared and there is no rest. The code reads its warm-up setting nowhere, so there is none here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl, soft_label_kl_each


def pair_weights(first: Tensor, second: Tensor, decay: float | Tensor) -> Tensor:
    """Return 2 exp(-decay (i + j)) / (1.5 + |i - j|) for ranks i and j from 1."""
    return 2 * torch.exp(-decay * (first + second)) / (1.5 + (first - second).abs())


def local_relations(
    student_logits: Tensor,
    teacher_logits: Tensor,
    top: int,
    temperature: float | Tensor,
    decay: float | Tensor = 0.05,
) -> tuple[Tensor, Tensor]:
    """Return (local part, rest), scalars with T^2 in them: mean over B.

    Args:
        student_logits, teacher_logits: [B, K].
        top: k of at least 2, the number of the student's largest logits that are compared; K if it is larger.
        temperature: T > 0. decay: of a pair's weight by rank. Numbers or scalar tensors.
    """
    # stable: equal logits come in the same order in every precision
    order = torch.sort(student_logits.detach(), dim=-1, descending=True, stable=True).indices
    own, given = student_logits.gather(-1, order), teacher_logits.gather(-1, order)
    top = min(top, order.shape[-1])
    # a table of all pairs, of which those above the diagonal count: choosing them by index would add up the gradient of
    # a class in another order each time on a GPU
    pairs = (torch.stack(torch.broadcast_tensors(z[..., :top, None], z[..., None, :top]), -1) for z in (own, given))
    each = soft_label_kl_each(*pairs, temperature).mean(-3)
    rank = torch.arange(1, top + 1, device=own.device, dtype=own.dtype)
    weights = torch.where(rank[:, None] < rank, pair_weights(rank[:, None], rank, decay), 0)
    together = soft_label_kl(own[..., :top], given[..., :top], temperature)
    whole = weights[0, 1] if top == 2 else 1.0
    local = ((weights * each).sum((-2, -1)) + whole * together) / (top * (top - 1) / 2 + 1)
    if top == order.shape[-1]:
        return local, torch.zeros_like(local)
    return local, soft_label_kl(own[..., top:], given[..., top:], temperature)


class LDRLD(nn.Module):
    """``local * local part + rest * rest``.

    Args:
        temperature: T of every softmax.
        top: k, the number of classes that are compared pair by pair.
        local, rest: the paper's alpha and beta, the weights of both parts.
        decay: how fast the weight of a pair falls with the ranks of its classes.
    """

    needs = frozenset({"logits"})

    def __init__(
        self,
        temperature: float | Tensor = 4.0,
        top: int = 7,
        local: float | Tensor = 10.5,
        rest: float | Tensor = 7.0,
        decay: float | Tensor = 0.05,
    ):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(top, int) or top < 2:
            raise ValueError(
                f"kd.top counts classes to compare in pairs and must be a whole number of 2 or more, got {top}"
            )
        for name, value in {"local": local, "rest": rest, "decay": decay}.items():
            if not isinstance(value, Tensor) and not value >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {value}")
        if not any(isinstance(weight, Tensor) or weight for weight in (local, rest)):
            raise ValueError("kd.local and kd.rest are both 0: there is nothing to learn from the teacher")
        self.temperature, self.top = temperature, top
        self.local, self.rest, self.decay = local, rest, decay

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build.

        Raises:
            ValueError: only the rest has a weight, and there is none.
        """
        classes = student.logits.shape[-1]
        if not isinstance(self.local, Tensor) and not self.local and classes <= self.top + 1:
            raise ValueError(
                f"kd.local=0 leaves the classes beside the first kd.top={self.top}, and with {classes} classes there "
                "are not two of them: choose a smaller kd.top, or kd.local above 0"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        local, rest = local_relations(student.logits, teacher.logits, self.top, self.temperature, self.decay)
        return self.local * local + self.rest * rest
