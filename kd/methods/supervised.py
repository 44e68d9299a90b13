"""Cross entropy with the labels: the hard term of every method, and the only term of the labels-only baseline.

Label smoothing (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567) is the control without a teacher.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs


def cross_entropy(
    logits: Tensor, target: Tensor, label_smoothing: float | Tensor = 0.0, class_weight: Tensor | None = None
) -> Tensor:
    """Return the mean over the batch of w_y [-(1 - e) log p_y - (e / K) sum_k log p_k].

    The mean is over images and not, as torch's, over weights: so it equals the mean over slices of the batch.

    Args:
        logits: [B, K]. target: [B], int64. label_smoothing: e, in [0, 1), a number or a scalar tensor.
        class_weight: w, [K]; None is 1 for all.
    """
    if class_weight is None and not isinstance(label_smoothing, Tensor):
        return F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    return _each(logits, target, label_smoothing, class_weight).mean()


def labelled_cross_entropy(logits: Tensor, batch: Batch, label_smoothing: float | Tensor = 0.0) -> Tensor:
    """Return the cross entropy of a batch in which images without labels, of target -1, count for nothing.

    The sum over labelled images is divided by their expected number, B times their share of the epoch: the mean over an
    epoch is that over its labelled images, and a mean over slices of a batch equals that of the batch.
    """
    pairs = [(batch.target, 1.0)]
    if batch.mixup_target is not None:
        pairs = [(batch.target, batch.mixup_lam), (batch.mixup_target, 1 - batch.mixup_lam)]
    each = sum(
        share * (target >= 0) * _each(logits, target.clamp(min=0), label_smoothing, batch.class_weight)
        for target, share in pairs
    )
    return each.mean() / batch.labelled


def mixed_cross_entropy(logits: Tensor, batch: Batch, label_smoothing: float | Tensor = 0.0) -> Tensor:
    """Return the cross entropy of mixtures of two images (mixup, arXiv 1710.09412).

    The weight of a target is the share of its image.
    """
    own, other = (
        _each(logits, target, label_smoothing, batch.class_weight) for target in (batch.target, batch.mixup_target)
    )
    return (batch.mixup_lam * own + (1 - batch.mixup_lam) * other).mean()


def _each(logits: Tensor, target: Tensor, label_smoothing: float | Tensor, class_weight: Tensor | None) -> Tensor:
    if isinstance(label_smoothing, Tensor):  # torch's takes a number; a stack of students has one each
        log_p = logits.log_softmax(-1)
        own = log_p.gather(-1, target[:, None]).squeeze(-1)
        each = -(1 - label_smoothing) * own - label_smoothing * log_p.mean(-1)
    else:
        each = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    return each if class_weight is None else class_weight[target] * each


def learns_labels(objective: nn.Module) -> bool:
    """Whether ``objective`` contains a cross entropy with labels, or a term that says ``learns_labels``."""
    return any(
        isinstance(module, CrossEntropy) or getattr(module, "learns_labels", False) for module in objective.modules()
    )


class CrossEntropy(nn.Module):
    """The hard-label term; of several views of each image (kd=crld), the sum over the views."""

    needs: frozenset[str] = frozenset()
    every_view = True

    def __init__(self, label_smoothing: float | Tensor = 0.0):
        super().__init__()
        if not isinstance(label_smoothing, Tensor) and not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        logits, batch = student.label_logits, batch.learners
        if len(batch.target) < len(logits):
            logits = logits[: len(batch.target)]
        return batch.views * self.mean(logits, batch) if batch.views > 1 else self.mean(logits, batch)

    def mean(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean over rows that learn their labels; logits [B, K]."""
        if batch.labelled is not None:
            return labelled_cross_entropy(logits, batch, self.label_smoothing)
        if batch.mixup_target is None:
            return cross_entropy(logits, batch.target, self.label_smoothing, batch.class_weight)
        return mixed_cross_entropy(logits, batch, self.label_smoothing)
