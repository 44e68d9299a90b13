"""Multi-Level Logit Distillation (Jin, Wang, Lin, CVPR 2023), https://doi.org/10.1109/CVPR52729.2023.02325.

At several temperatures, what two networks say is aligned at three levels: image by image (Hinton's term), and by the
Gram matrices of the probabilities, between the images of a batch and between classes. Costs two softmaxes and two
products of B^2 K and B K^2 operations a temperature: nothing beside the networks. The Gram terms are not free of the
batch size: with twice the batch, batch alignment doubles and class alignment is four times as large.

The published code ranks images by the teacher's confidence, and classes by their share of its probability, and marks
the half that it is *least* sure of. How the marks act is where variants differ:

- ``code``: what the published code computes of its weakly augmented view, the only one that there is here. The mark
  multiplies a sum that is already a scalar, so it is no more than a factor mean(mark), about 1/2. At T = 2 and T = 6
  the term image by image counts once more, unmarked: there the code takes the weak view where it means the strong one.
- ``paper``: the marks act where they can be meant, on images and classes: the term image by image counts marked images
  alone (and is still divided by B), the Gram terms count the rows of marked images and classes. Which half is marked is
  the code's; this variant follows from descriptions of the paper and from the code's unused ``reduce=False``, not from
  the paper's own equations.

Published, student and teacher see a second, strongly augmented view, on which Hinton's terms at the other temperatures
and a second cross entropy are added: ``as_coded`` is the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch
from kd.methods.hinton import soft_label_kl, soft_label_kl_each

Temperatures = Sequence[float | Tensor]

PUBLISHED = (2.0, 3.0, 4.0, 5.0, 6.0)
AGAIN = (2.0, 6.0)  # at these the published code takes the weak view's logits for the strong view's
VARIANTS = ("code", "paper")


def instance_alignment(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, mark: Tensor
) -> Tensor:
    """Return mean_b mark_b T^2 KL(teacher_b || student_b), a scalar; both softmaxes at T.

    Args:
        student_logits, teacher_logits: [B, K]. mark: [B].
    """
    return (mark * soft_label_kl_each(student_logits, teacher_logits, temperature)).mean()


def batch_alignment(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, mark: float | Tensor = 1.0
) -> Tensor:
    """Return (1/B) || P_s P_s' - P_t P_t' ||_F^2, a scalar; P: the softmax at T, [B, K]; no T^2.

    Args:
        student_logits, teacher_logits: [B, K]. mark: [B], what each row of the difference counts.
    """
    student, teacher = (_probabilities(logits, temperature) for logits in (student_logits, teacher_logits))
    apart = student @ student.transpose(-1, -2) - teacher @ teacher.transpose(-1, -2)
    return (mark * apart.square().sum(-1)).sum() / len(apart)


def class_alignment(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, mark: float | Tensor = 1.0
) -> Tensor:
    """Return (1/K) || P_s' P_s - P_t' P_t ||_F^2, a scalar; P: the softmax at T, [B, K]; no T^2.

    Args:
        student_logits, teacher_logits: [B, K]. mark: [K], what each row of the difference counts.
    """
    student, teacher = (_probabilities(logits, temperature) for logits in (student_logits, teacher_logits))
    apart = student.transpose(-1, -2) @ student - teacher.transpose(-1, -2) @ teacher
    return (mark * apart.square().sum(-1)).sum() / len(apart)


def confidence_masks(teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """The half that the teacher is least sure of, of the images and of the classes: 0 or 1, [B] and [K].

    An image's confidence is its largest probability, a class's the sum of its probabilities over the batch. The median
    is marked too, so of an odd number the larger half.
    """
    probabilities = _probabilities(teacher_logits, 1.0)
    halves = []
    for confidence in (probabilities.amax(-1), probabilities.sum(-2)):
        # torch takes the lower of two medians and the published code their middle: as a bound they are the same
        halves.append((confidence <= confidence.median(-1).values).to(confidence.dtype))
    return halves[0], halves[1]


def alignment(student_logits: Tensor, teacher_logits: Tensor, temperatures: Temperatures) -> Tensor:
    """The variant ``paper``: the sum over temperatures and levels, with marked images and classes alone; a scalar."""
    images, classes = confidence_masks(teacher_logits)
    pair = student_logits, teacher_logits
    return sum(
        instance_alignment(*pair, t, images) + batch_alignment(*pair, t, images) + class_alignment(*pair, t, classes)
        for t in temperatures
    )


def code_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperatures: Temperatures, again: Temperatures
) -> tuple[Tensor, Tensor, Tensor]:
    """The variant ``code``: what is computed of the weak view at the levels of instance, batch and class; scalars.

    Args:
        again: temperatures at which the instances count once more, without the factor.
    """
    images, classes = (mark.mean() for mark in confidence_masks(teacher_logits))
    pair = student_logits, teacher_logits
    instance = images * sum(soft_label_kl(*pair, t) for t in temperatures)
    instance = instance + sum(soft_label_kl(*pair, t) for t in again)
    batch = images * sum(batch_alignment(*pair, t) for t in temperatures)
    return instance, batch, classes * sum(class_alignment(*pair, t) for t in temperatures)


def code_total(
    weak: tuple[Tensor, Tensor],
    strong: tuple[Tensor, Tensor],
    target: Tensor,
    temperatures: Temperatures = PUBLISHED,
    again: Temperatures = AGAIN,
    hard: float = 0.1,
    soft: float = 0.9,
) -> dict[str, Tensor]:
    """The published objective of two views, in its weighted parts: their sum is what is minimised.

    Args:
        weak, strong: logits of student and teacher, [B, K] each, on the two views of the batch.
        target: [B], int64.
        again: the temperatures at which the weak view stands in for the strong one.
        hard, soft: weights of the cross entropies and of the rest.

    Returns:
        ``{"hard", "instance", "batch", "class"}``.
    """
    instance, batch, classes = code_loss(*weak, temperatures, again)
    instance = instance + sum(soft_label_kl(*strong, t) for t in temperatures if t not in again)
    labels = F.cross_entropy(weak[0], target) + F.cross_entropy(strong[0], target)
    return {"hard": hard * labels, "instance": soft * instance, "batch": soft * batch, "class": soft * classes}


def _probabilities(logits: Tensor, temperature: float | Tensor) -> Tensor:
    return torch.softmax(logits / temperature, dim=-1)


class MLKD(nn.Module):
    """Three levels of alignment, summed over temperatures.

    Args:
        temperatures: the numbers T to sum over.
        variant: "code" or "paper".
    """

    needs = frozenset({"logits"})

    def __init__(self, temperatures: Sequence[float] = PUBLISHED, variant: str = "code"):
        super().__init__()
        if not isinstance(temperatures, Iterable) or not len(temperatures):
            raise ValueError(f"kd.temperatures must be a list of numbers, e.g. [2,4], got {temperatures}")
        self.temperatures = tuple(temperatures)
        if not all(t > 0 for t in self.temperatures):
            raise ValueError(f"kd.temperatures must all be above 0, got {list(self.temperatures)}")
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant = variant
        self.again = tuple(t for t in self.temperatures if t in AGAIN)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits), "kd=mlkd")
        if self.variant == "paper":
            return alignment(student.logits, teacher.logits, self.temperatures)
        return sum(code_loss(student.logits, teacher.logits, self.temperatures, self.again))
