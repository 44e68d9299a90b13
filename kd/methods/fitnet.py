"""FitNets: Hints for Thin Deep Nets (Romero et al. 2015), https://arxiv.org/abs/1412.6550.

The student's map, through a regressor, learns to equal a map of the teacher (the hint), by the mean squared difference.
Costs a 1x1 convolution (and batch norm) a stage, with student's channels x teacher's channels weights, in training
alone.

The paper trains in two stages: first the student up to the guided layer on the hint, by 1/2 of the squared distance,
then the whole network on labels and soft labels. RepDistiller and mdistiller add 100 times the mean squared difference
to the cross entropy from the first step to the last: that is ``kd=fitnet``; ``kd=fitnet_two_stage`` is nearer to the
paper. For maps of different sizes they use a strided or transposed convolution; here the larger map is average-pooled,
and the regressor is a 1x1 convolution for any two sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import conv_norm, paired_maps, same_size
from kd.runtime.user_warnings import warn_user

ADAPTERS = ("conv_norm_relu", "conv", "none")


def hint(regressed: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over all elements of (regressed - teacher)^2, the larger map pooled to the smaller.

    Args:
        regressed: [B, D, H, W], the student's map in the teacher's channels. teacher: [B, D, I, J].
    """
    regressed, teacher = same_size(regressed, teacher)
    return (regressed - teacher).square().mean()


class FitNet(nn.Module):
    """``hint``, summed over stages; each stage has its own regressor.

    Args:
        adapter: the regressor. "conv_norm_relu": 1x1 convolution, batch norm, ReLU; "conv": the convolution alone;
            "none": the student's map as it is.
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, adapter: str = "conv_norm_relu", stages: Sequence[int] | None = (-2,)):
        super().__init__()
        if adapter not in ADAPTERS:
            raise ValueError(f"kd.adapter must be one of {', '.join(ADAPTERS)}, got {adapter!r}")
        self.adapter, self.stages = adapter, stages
        self.regressors = nn.ModuleList()

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build a regressor for each pair of maps.

        Raises:
            ValueError: ``adapter="none"`` between maps of different channel counts.
        """
        pairs = paired_maps(student, teacher, self.stages)
        self.regressors = nn.ModuleList(self.regressor(own, other) for own, other in pairs)
        if self.adapter == "conv_norm_relu" and any((other < 0).any() for _, other in pairs):
            warn_user("the teacher's maps have negative values, which a ReLU cannot match; kd.adapter=conv can")

    def regressor(self, student: Tensor, teacher: Tensor) -> nn.Module:
        inside, outside = student.shape[1], teacher.shape[1]
        if self.adapter == "conv_norm_relu":
            return nn.Sequential(*conv_norm(inside, outside), nn.ReLU())
        if self.adapter == "conv":
            return nn.Conv2d(inside, outside, 1, bias=False)
        if inside != outside:
            raise ValueError(
                f"kd.adapter=none compares maps channel by channel, but the student's map has {inside} channels and "
                f"the teacher's {outside}: use kd.adapter=conv or conv_norm_relu, or other kd.stages"
            )
        return nn.Identity()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        total = 0.0
        for regressor, pair in zip(self.regressors, paired_maps(student, teacher, self.stages), strict=True):
            own, other = same_size(*pair)  # before the regressor, which is cheaper
            total = total + hint(regressor(own), other)
        return total
