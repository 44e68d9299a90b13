"""Like What You Like: Knowledge Distill via Neuron Selectivity Transfer (Huang & Wang 2017),
https://arxiv.org/abs/1707.01219.

Each channel is a sample: its pattern over places, scaled to unit length. The loss is the squared maximum mean
discrepancy between the student's samples and the teacher's under the kernel (u . v)^2. It has no weights and works for
any two networks: channels are a set, and their number and order do not matter.

Costs a matrix product for each pair of maps and image. Other implementations compute the kernel over [B, C, D, H W];
here the sum over channels comes from the smaller of two matrices, [B, C, D] or [B, H W, H W]: the same value within
rounding, with down to a thousandth of the memory. All three means are kept, so that the value is 0 where both networks
agree; the mean of the teacher alone has no gradient. A map of a single place, normalised, is a constant: such pairs are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_wide, paired_wide_maps, same_size


def mean_kernel(u: Tensor, v: Tensor) -> Tensor:
    """Return the mean of (u_i . v_j)^2 over all channels i of u and j of v: [B, C, N], [B, D, N] -> [B]."""
    pairs, places = u.shape[1] * v.shape[1], u.shape[2]
    if pairs <= places**2:
        return (u @ v.mT).square().mean((1, 2))
    return ((u.mT @ u) * (v.mT @ v)).sum((1, 2)) / pairs  # the same sum, in the other order


def selectivity_discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """Return MMD^2 of the channels' patterns, mean over B, the larger map pooled to the smaller.

    Args:
        student, teacher: [B, C, H, W] and [B, D, I, J]. A channel that is 0 everywhere has pattern 0 and gradient 0.
    """
    student, teacher = same_size(student, teacher)
    u, v = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)
    return (mean_kernel(v, v) + mean_kernel(u, u) - 2 * mean_kernel(u, v)).mean()


class NeuronSelectivityTransfer(nn.Module):
    """``selectivity_discrepancy``, summed over stages.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = None):
        super().__init__()
        self.stages = stages

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""
        check_wide(student, teacher, self.stages, "kd=nst")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sum(selectivity_discrepancy(*pair) for pair in paired_wide_maps(student, teacher, self.stages))
