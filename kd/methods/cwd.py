"""Channel-wise Knowledge Distillation for Dense Prediction (Shu, Liu, Gao, Yan, Shen, ICCV 2021),
https://arxiv.org/abs/2011.13256.

A softmax over the places of a channel says where that channel is active; the loss is T^2 KL(teacher || student) of
these distributions, the mean over images and channels. How strong a channel is matters only by contrast: a constant
added to a channel changes nothing. Made for segmentation, where the maps are the network's answer: those are the class
maps here (``maps="class_maps"``). Where the channels of features differ, a 1x1 convolution maps the student's to the
teacher's; equal ones are compared as they are. Maps of different sizes are average-pooled to the smaller. Costs that
convolution in training; next to nothing without it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_wide, paired_wide_maps, same_size
from kd.methods.catkd import check_class_maps, check_head
from kd.methods.hinton import soft_label_kl_each

MAPS = ("features", "class_maps")


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return T^2 KL of the softmaxes over places, a scalar: mean over B and C.

    Args:
        student, teacher: [B, C, H, W], of one shape. temperature: T > 0, a number or a scalar tensor.
    """
    return soft_label_kl_each(student.flatten(2), teacher.flatten(2), temperature).mean()


class CWD(nn.Module):
    """``channel_divergence``, summed over stages.

    Args:
        temperature: T of the softmaxes over places.
        maps: "features", or "class_maps" of both networks.
        stages: of the features, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, temperature: float | Tensor = 1.0, maps: str = "features", stages: Sequence[int] | None = (-1,)):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if maps not in MAPS:
            raise ValueError(f"kd.maps must be one of {', '.join(MAPS)}, got {maps!r}")
        self.temperature, self.maps, self.stages = temperature, maps, stages
        self.needs = frozenset({maps})

    def bind(self, context: Context) -> None:
        """Check the teacher's head where class maps are compared."""
        if self.maps == "class_maps":
            check_head(context, "kd=cwd")

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build a 1x1 convolution for each pair of features of different channels.

        Raises:
            ValueError: a teacher without maps, or maps of a single place.
        """
        if self.maps == "class_maps":
            check_class_maps(student, teacher, "kd=cwd")
            student, teacher = (shown._replace(features=(shown.class_maps,)) for shown in (student, teacher))
        stages = self.stages if self.maps == "features" else None
        check_wide(student, teacher, stages, "kd=cwd")
        pairs = paired_wide_maps(student, teacher, stages)
        self.align = nn.ModuleList(
            nn.Identity() if own.shape[1] == given.shape[1] else nn.Conv2d(own.shape[1], given.shape[1], 1)
            for own, given in pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        if self.maps == "class_maps":
            return channel_divergence(*same_size(student.class_maps, teacher.class_maps), self.temperature)
        pairs = zip(self.align, paired_wide_maps(student, teacher, self.stages), strict=True)
        return sum(channel_divergence(align(own), given, self.temperature) for align, (own, given) in pairs)
