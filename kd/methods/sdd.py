"""Scale Decoupled Distillation (Wei, Luo, Luo, CVPR 2024), https://arxiv.org/abs/2403.13512.

The logits of an image are a mean over places, so they mix what different regions show. Here the classifier answers for
regions: the whole, 2 x 2 and 4 x 4 parts of the last map, and a loss of logits compares student and teacher region by
region. A region where the teacher is right and its whole answer wrong, or the other way round, counts twice: what the
whole hides. Costs the linear classifier at each place instead of once, and the loss once a region (5 or 21).

The classifier commutes with the pooling, so a region's logits are the mean of class maps over it; a head that is more
than a global average pool and a linear layer is refused, as in kd=catkd. As published, larger regions are means of the
4 x 4 parts: where 4 does not divide the side of the map, the parts overlap, and the whole is not exactly the logits.

The loss is Hinton's (``ScaleDecoupledKD``), DKD's (``ScaleDecoupledDKD``) or what the authors' code calls NKD
(``ScaleDecoupledNKD``): there the mask that should leave the target out of the second part leaves everything in, so it
is a cross entropy of all classes and not kd=nkd's. For a mixture of two images (mixup) the target is that of the image
with the larger share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods.catkd import check_class_maps, check_head
from kd.methods.dkd import decoupled_kl_each
from kd.methods.hinton import soft_label_kl_each
from kd.runtime.resampling import average_pool
from kd.runtime.user_warnings import warn_user

FINEST = 4  # the side of the parts that larger regions are means of


def region_logits(class_maps: Tensor, scales: Sequence[int]) -> Tensor:
    """Return the logits of each region, [B, K, H, W] -> [B, R, K]: of scale 1, the whole, first.

    Args:
        scales: sides of the grids of regions, of 1, 2 and 4.
    """
    parts = average_pool(class_maps, FINEST, FINEST)
    grids = [parts if side == FINEST else average_pool(parts, side, side) for side in scales]
    return torch.cat([grid.flatten(2) for grid in grids], dim=-1).transpose(-1, -2)


def region_weights(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Return 2 where the teacher is right and its whole wrong, or wrong and right, else 1: [B, R, K], [B] -> [B, R]."""
    right = teacher_logits.argmax(-1) == target[:, None]
    return 1.0 + (right != right[:, :1]).to(teacher_logits.dtype)


def cross_entropies_each(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float | Tensor, rest: float | Tensor
) -> Tensor:
    """Return -p_t log p_s of the target - rest T^2 sum_k q_t log q_s, [B]; p at T = 1, q over all classes at T.

    Args:
        student_logits, teacher_logits: [B, K]. target: [B], int64.
    """
    own, given = (
        logits.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1) for logits in (student_logits, teacher_logits)
    )
    every = ((teacher_logits / temperature).softmax(-1) * (student_logits / temperature).log_softmax(-1)).sum(-1)
    return -given.exp() * own - rest * temperature**2 * every


class ScaleDecoupledKD(nn.Module):
    """Hinton's term, region by region; the base of the others.

    Args:
        temperature: T of both softmaxes. scales: sides of the grids of regions: 1, the whole, then 2 or 4 or both.
    """

    needs = frozenset({"class_maps"})
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 4.0, scales: Sequence[int] = (1, 2)):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if isinstance(scales, int) or list(scales) not in ([1], [1, 2], [1, 4], [1, 2, 4]):
            raise ValueError(f"kd.scales must be [1], [1,2], [1,4] or [1,2,4], got {scales}")
        self.temperature, self.scales = temperature, tuple(scales)

    def bind(self, context: Context) -> None:
        """Check the teacher's head."""
        check_head(context, "kd=sdd")

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Check the class maps; there is nothing to build."""
        check_class_maps(student, teacher, "kd=sdd")

    def each(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each region, [N], from logits [N, K] and targets [N]."""
        return soft_label_kl_each(student_logits, teacher_logits, self.temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, given = (region_logits(shown.class_maps, self.scales) for shown in (student, teacher))
        target = batch.target[:, None].expand(given.shape[:2])
        losses = self.each(own.flatten(0, 1), given.flatten(0, 1), target.flatten())
        return (region_weights(given, batch.target).flatten() * losses).mean()


class ScaleDecoupledDKD(ScaleDecoupledKD):
    """DKD's term, region by region.

    Args:
        temperature, scales: of ``ScaleDecoupledKD``. target, nontarget: of ``kd.methods.dkd.DKD``.
    """

    def __init__(
        self,
        temperature: float | Tensor = 4.0,
        target: float | Tensor = 1.0,
        nontarget: float | Tensor = 8.0,
        scales: Sequence[int] = (1, 2),
    ):
        super().__init__(temperature, scales)
        for name, weight in {"target": target, "nontarget": nontarget}.items():
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {weight}")
        if not any(isinstance(weight, Tensor) or weight for weight in (target, nontarget)):
            raise ValueError("kd.target and kd.nontarget are both 0: there is nothing to learn from the teacher")
        self.target, self.nontarget = target, nontarget

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Check the class maps; there is nothing to build."""
        super().setup(student, teacher)
        if student.logits.shape[-1] == 2:
            warn_user(
                "DKD with two classes: there is one class beside the target, so the non-target part is 0 and has no "
                "gradient. kd.nontarget has no effect; use kd=sdd"
            )

    def each(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        tckd, nckd = decoupled_kl_each(student_logits, teacher_logits, target, self.temperature)
        return self.target * tckd + self.nontarget * nckd


class ScaleDecoupledNKD(ScaleDecoupledKD):
    """What the authors' code calls NKD, region by region.

    Args:
        temperature: T of the cross entropy of all classes; the target has 1.
        nontarget: its weight, gamma in the code. scales: of ``ScaleDecoupledKD``.
    """

    def __init__(
        self, temperature: float | Tensor = 1.0, nontarget: float | Tensor = 1.5, scales: Sequence[int] = (1, 2)
    ):
        super().__init__(temperature, scales)
        if not isinstance(nontarget, Tensor) and not nontarget >= 0:
            raise ValueError(f"kd.nontarget must not be negative, got {nontarget}")
        self.nontarget = nontarget

    def each(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropies_each(student_logits, teacher_logits, target, self.temperature, self.nontarget)
