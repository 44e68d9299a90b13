"""Multi-Level Logit Distillation (Jin, Wang, Lin, CVPR 2023), https://doi.org/10.1109/CVPR52729.2023.02325.

The loss aligns the probabilities of student and teacher at several temperatures and at three levels: image by image
(Hinton's term), and, by the Gram matrices of the probabilities, between the images of a batch and between classes.
Costs two softmaxes and two products of B^2 K and B K^2 operations a temperature: negligible beside the networks. The
Gram terms depend on the batch size: with twice the batch, batch alignment doubles and class alignment is four times as
large.

The published code ranks images by the teacher's confidence, and classes by their share of its probability, and marks
the half with the *least* confidence. All of this is on a weakly augmented view. On a second, strongly augmented one
there are Hinton's term, unmarked, and a second cross entropy; ``strong_view=False`` leaves that view out. The variants
differ in the effect of the marks, and in what the strong view learns:

- ``code``: the mark multiplies a sum that is already a scalar, so it is only a factor mean(mark), about 1/2. At T = 2
  and T = 6 the code takes the weak view in place of the strong one: there the image-by-image term of the weak view
  counts once more, unmarked, with and without a strong view.
- ``paper``: the marks select images and classes. The image-by-image term counts marked images alone (and still divides
  by B); the Gram terms count the rows of marked images and classes. The marked half is that of the code. The strong
  view has Hinton's term at every temperature. This variant follows descriptions of the paper and the code's unused
  ``reduce=False``, not the paper's own equations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, two_views
from kd.methods.hinton import soft_label_kl, soft_label_kl_each

Temperatures = Sequence[float | Tensor]

PUBLISHED = (2.0, 3.0, 4.0, 5.0, 6.0)
WEAK_VIEW_TEMPERATURES = (
    2.0,
    6.0,
)  # where the published code uses the weak view's logits in place of the strong view's
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
        student_logits, teacher_logits: [B, K]. mark: [B], the weight of each row of the difference.
    """
    student, teacher = (_probabilities(logits, temperature) for logits in (student_logits, teacher_logits))
    apart = student @ student.transpose(-1, -2) - teacher @ teacher.transpose(-1, -2)
    return (mark * apart.square().sum(-1)).sum() / len(apart)


def class_alignment(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, mark: float | Tensor = 1.0
) -> Tensor:
    """Return (1/K) || P_s' P_s - P_t' P_t ||_F^2, a scalar; P: the softmax at T, [B, K]; no T^2.

    Args:
        student_logits, teacher_logits: [B, K]. mark: [K], the weight of each row of the difference.
    """
    student, teacher = (_probabilities(logits, temperature) for logits in (student_logits, teacher_logits))
    apart = student.transpose(-1, -2) @ student - teacher.transpose(-1, -2) @ teacher
    return (mark * apart.square().sum(-1)).sum() / len(apart)


def confidence_masks(teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mark the images and the classes with the least confidence of the teacher: 0 or 1, [B] and [K].

    The confidence of an image is its largest probability, that of a class the sum of its probabilities over the batch.
    Half are marked, and the median too: of an odd number the larger half.
    """
    probabilities = _probabilities(teacher_logits, 1.0)
    halves = []
    for confidence in (probabilities.amax(-1), probabilities.sum(-2)):
        # the lower of two medians, where the published code takes their mean: as a bound both are the same. Not by
        # torch.median, which warns on a GPU that the position, not used here, differs from run to run
        median = confidence.sort(-1).values[..., (confidence.shape[-1] - 1) // 2]
        halves.append((confidence <= median[..., None]).to(confidence.dtype))
    return halves[0], halves[1]


def alignment(student_logits: Tensor, teacher_logits: Tensor, temperatures: Temperatures) -> Tensor:
    """Return the variant ``paper``, a scalar: the sum over temperatures and levels, for marked images and classes."""
    images, classes = confidence_masks(teacher_logits)
    pair = student_logits, teacher_logits
    return sum(
        instance_alignment(*pair, t, images) + batch_alignment(*pair, t, images) + class_alignment(*pair, t, classes)
        for t in temperatures
    )


def code_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperatures: Temperatures, again: Temperatures
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the variant ``code`` at the levels instance, batch and class, three scalars.

    Args:
        again: temperatures at which the instance level counts once more, without the factor.
    """
    images, classes = (mark.mean() for mark in confidence_masks(teacher_logits))
    pair = student_logits, teacher_logits
    instance = images * sum(soft_label_kl(*pair, t) for t in temperatures)
    instance = instance + sum(soft_label_kl(*pair, t) for t in again)
    batch = images * sum(batch_alignment(*pair, t) for t in temperatures)
    return instance, batch, classes * sum(class_alignment(*pair, t) for t in temperatures)


def code_of_two_views(
    weak: tuple[Tensor, Tensor], strong: tuple[Tensor, Tensor], temperatures: Temperatures, again: Temperatures
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``code_loss`` of the weak view, with the strong view at the instance level, three scalars.

    Args:
        weak, strong: logits of student and teacher, [B, K] each, on the two views of the batch.
        again: the temperatures at which the weak view replaces the strong one.
    """
    instance, batch, classes = code_loss(*weak, temperatures, again)
    return instance + sum(soft_label_kl(*strong, t) for t in temperatures if t not in again), batch, classes


def _probabilities(logits: Tensor, temperature: float | Tensor) -> Tensor:
    return torch.softmax(logits / temperature, dim=-1)


class MLKD(nn.Module):
    """Alignment at three levels, summed over temperatures.

    Args:
        temperatures: the values of T.
        variant: "code" or "paper".
        strong_view: whether there is a second, strong view of each image.
    """

    needs = frozenset({"logits"})
    second_augment = True

    def __init__(self, temperatures: Sequence[float] = PUBLISHED, variant: str = "code", strong_view: bool = True):
        super().__init__()
        if not isinstance(temperatures, Iterable) or not len(temperatures):
            raise ValueError(f"kd.temperatures must be a list of numbers, e.g. [2,4], got {temperatures}")
        self.temperatures = tuple(temperatures)
        if not all(t > 0 for t in self.temperatures):
            raise ValueError(f"kd.temperatures must all be above 0, got {list(self.temperatures)}")
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant, self.strong_view = variant, strong_view
        self.again = tuple(t for t in self.temperatures if t in WEAK_VIEW_TEMPERATURES)

    @property
    def views(self) -> int:
        """Of each image."""
        return 2 if self.strong_view else 1

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits) // self.views, "kd=mlkd")
        if not self.strong_view:
            pair = student.logits, teacher.logits
            if self.variant == "paper":
                return alignment(*pair, self.temperatures)
            return sum(code_loss(*pair, self.temperatures, self.again))
        weak, strong = two_views(student, teacher, batch, "kd=mlkd")
        if self.variant == "paper":
            return alignment(*weak, self.temperatures) + sum(soft_label_kl(*strong, t) for t in self.temperatures)
        return sum(code_of_two_views(weak, strong, self.temperatures, self.again))
