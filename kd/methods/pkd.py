"""PKD: distillation by the Pearson correlation (Cao, Zhang, Gao, Cheng, Cheng, Cheng, NeurIPS 2022),
https://arxiv.org/abs/2207.02039.

Each channel of a map is standardised over the images and places of the batch, in both networks on their own; the loss
is half the mean squared difference. That is 1 minus the Pearson correlation of two channels, times (n - 1) / n for n
images and places: neither the size of a channel's values nor their mean matters. Made for object detectors of different
kinds. Where the channels differ, a 1x1 convolution without bias maps the student's to the teacher's; equal ones are
compared as they are, as published. Maps of different sizes are average-pooled to the smaller (mmrazor resizes the
student's). Costs that convolution in training; next to nothing without it.

As in mmrazor the standard deviation divides by n - 1 and has 1e-6 added, so the gradient of a channel that is constant
over the batch is large where the student has begun to move it: clip it (train.student.clip_norm).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch, paired_maps, same_size

EPS = 1e-6  # mmrazor's


def standardize_channels(x: Tensor) -> Tensor:
    """Return (x - mean) / (std + EPS) of each channel over images and places: [B, C, H, W] -> [B, C, H, W]."""
    places = (0, 2, 3)
    return (x - x.mean(places, keepdim=True)) / (x.std(places, keepdim=True) + EPS)


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return half the mean squared difference of standardised maps [B, C, H, W], a scalar."""
    return (standardize_channels(student) - standardize_channels(teacher)).square().mean() / 2


class PKD(nn.Module):
    """``correlation_loss``, summed over stages.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = None):
        super().__init__()
        self.stages = stages

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build a 1x1 convolution for each pair of different channels.

        Raises:
            ValueError: a teacher without maps.
        """
        widths = [(own.shape[1], given.shape[1]) for own, given in paired_maps(student, teacher, self.stages)]
        self.align = nn.ModuleList(
            nn.Identity() if own == given else nn.Conv2d(own, given, 1, bias=False) for own, given in widths
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits), "kd=pkd")
        pairs = zip(self.align, paired_maps(student, teacher, self.stages), strict=True)
        return sum(correlation_loss(*same_size(align(own), given)) for align, (own, given) in pairs)
