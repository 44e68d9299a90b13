"""Paying More Attention to Attention (Zagoruyko & Komodakis 2017), https://arxiv.org/abs/1612.03928.

Costs nothing to speak of, and has no weights: a map's channels are summed away before anything is compared, so any two
networks fit. What is compared is *where* a network is active; how strongly, and in which channel, is normalised away.

Paper and code disagree. The paper's loss is beta / 2 times the distance of two normalised maps. The authors' code, and
all peers after it, take the mean over places of its square (hence their weight of 1000): ``variant="code"``. Its
gradient fades as the maps come together, that of ``variant="paper"`` (torchdistill's, without beta / 2) does not.
A map of a single place, normalised, is a constant: such pairs are left out.
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

    An image whose map is zero everywhere has the attention 0, with gradient 0.
    """
    return F.normalize(x.abs().pow(p).mean(1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor, p: float | Tensor = 2.0, variant: str = "code") -> Tensor:
    """Return how far the attention of one map is from that of the other, the larger map pooled to the smaller.

    Args:
        student, teacher: [B, C, H, W] and [B, D, I, J].
        p: of |x|^p, at least 1; a large p looks at the strongest place alone.
        variant: "code", the squared difference, mean over B, H and W; "paper", the L2 distance, mean over B.
    """
    student, teacher = same_size(student, teacher)
    apart = attention_map(student, p) - attention_map(teacher, p)
    if variant == "code":
        return apart.square().mean()
    return torch.linalg.vector_norm(apart, dim=1).mean()


class AttentionTransfer(nn.Module):
    """The sum over stages of ``attention_transfer``.

    Args:
        stages: of the maps, from the deep end; None is as many as both networks have.
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
        found = paired_wide_maps(student, teacher, self.stages)
        return sum(attention_transfer(ours, theirs, self.p, self.variant) for ours, theirs in found)
