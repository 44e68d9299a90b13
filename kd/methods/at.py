"""Paying More Attention to Attention (Zagoruyko & Komodakis 2017), https://arxiv.org/abs/1612.03928.

The method compares *where* two networks are active: it sums over the channels of a map and normalises the result, so
how strong the activity is and in which channel does not matter. Any two networks can be compared, there are no weights,
and the cost is negligible.

Paper and code differ. The paper's loss is beta / 2 times the distance of two normalised maps. The authors' code, and
every later implementation, uses the mean over places of the squared difference (hence their weight of 1000):
``variant="code"``. Its gradient fades as the maps approach each other; the gradient of ``variant="paper"``
(torchdistill's, without beta / 2) does not. A map of a single place, normalised, is a constant: such pairs are left
out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_wide, paired_wide_maps, same_size

VARIANTS = ("code", "paper")


def attention_map(x: Tensor, p: float | Tensor = 2.0) -> Tensor:
    """Return the mean over channels of |x|^p, flattened to unit length: [B, C, H, W] -> [B, H W].

    An image whose map is 0 everywhere has attention 0 and gradient 0.
    """
    return F.normalize(x.abs().pow(p).mean(1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor, p: float | Tensor = 2.0, variant: str = "code") -> Tensor:
    """Return the distance of the attention of two maps, a scalar; the larger map is pooled to the smaller.

    Args:
        student, teacher: [B, C, H, W] and [B, D, I, J].
        p: exponent of |x|^p, at least 1; with a large p only the strongest place counts.
        variant: "code", the squared difference, mean over B, H and W; "paper", the L2 distance, mean over B.
    """
    student, teacher = same_size(student, teacher)
    apart = attention_map(student, p) - attention_map(teacher, p)
    if variant == "code":
        return apart.square().mean()
    return torch.linalg.vector_norm(apart, dim=1).mean()


class AttentionTransfer(nn.Module):
    """``attention_transfer``, summed over stages.

    Args:
        variant, p: of ``attention_transfer``.
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, variant: str = "code", p: float | Tensor = 2.0, stages: Sequence[int] | None = None):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        if not isinstance(p, Tensor) and not p >= 1:
            raise ValueError(f"kd.p must be at least 1, got {p}")
        self.variant, self.p, self.stages = variant, p, stages

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""
        check_wide(student, teacher, self.stages, "kd=at")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        pairs = paired_wide_maps(student, teacher, self.stages)
        return sum(attention_transfer(own, other, self.p, self.variant) for own, other in pairs)
