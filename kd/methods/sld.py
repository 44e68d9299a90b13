"""Swapped Logit Distillation (Limantoro, Lin, Wang, Tsai, Shuai, Huang, Cheng 2025), https://arxiv.org/abs/2504.20108.

Where the largest logit is not the label's, the two change places (``kd.methods.kd_swap.swap``): in the teacher's
answer, and in the student's own, which from five eighths of the training on is a second, pseudo-teacher. Hinton's term
with each is summed over six temperatures and over two views of each image, a weak and a strong one.

The variants differ in the pseudo-teacher: for ``paper`` it is a constant, as a teacher is; in the published code
(``code``) the gradient flows through it too.

Costs a second forward and backward pass of the student in each step, and no teacher where its logits are cached. For a
mixture of two images (mixup) the label is that of the image with the larger share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import two_views
from kd.methods.hinton import soft_label_kl
from kd.methods.kd_swap import swap

TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
VARIANTS = ("paper", "code")


def swapped_kl(student_logits: Tensor, other_logits: Tensor, target: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Return the sum over T of T^2 KL(softmax(swap(other) / T) || softmax(student / T)), a scalar; mean over B.

    Args:
        student_logits, other_logits: [B, K]. target: [B], int64.
    """
    right = swap(other_logits, target)
    return sum(soft_label_kl(student_logits, right, t) for t in temperatures)


class SwappedTeacher(nn.Module):
    """The teacher put right, on both views.

    Args:
        temperatures: the values of T.
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image
    views = 2
    second_augment = True

    def __init__(self, temperatures: Sequence[float] = TEMPERATURES):
        super().__init__()
        if not isinstance(temperatures, Iterable) or not len(temperatures):
            raise ValueError(f"kd.temperatures must be a list of numbers, e.g. [2,4], got {temperatures}")
        self.temperatures = tuple(temperatures)
        if not all(t > 0 for t in self.temperatures):
            raise ValueError(f"kd.temperatures must all be above 0, got {list(self.temperatures)}")

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        target = batch.target.chunk(batch.views)[0]
        both = two_views(student, teacher, batch, "kd=sld")
        return sum(swapped_kl(own, given, target, self.temperatures) for own, given in both)


class PseudoTeacher(SwappedTeacher):
    """The student's own answer put right, on both views.

    Args:
        temperatures: the values of T. variant: "paper" or "code", see above.
    """

    needs = frozenset()

    def __init__(self, temperatures: Sequence[float] = TEMPERATURES, variant: str = "paper"):
        super().__init__(temperatures)
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant = variant

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        own = student if self.variant == "code" else Outputs(student.logits.detach())
        return super().forward(student, own, batch)
