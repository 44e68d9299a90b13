"""FSP: A Gift from Knowledge Distillation (Yim, Joo, Bae, Kim, CVPR 2017), the flow of the solution procedure,
https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html.

Two successive maps of a network give a matrix, the inner products of each channel of the first with each channel of the
second over places: how the network goes from one to the other. The student learns the teacher's matrices. Maps of
student and teacher may differ in size, not in channels: where they do, a 1x1 convolution without bias maps the
student's to the teacher's (the published code has none, and so takes no such pair). Costs these convolutions in
training, and C_1 C_2 numbers for each image and pair: a teacher of 256 and 512 channels has 131,072, 0.5 MB.

The two codes in use differ: RepDistiller (``variant="code"``) average-pools the larger map of a pair and takes the mean
squared difference; torchdistill max-pools it and sums the lengths of the columns of the difference, unsquared, so its
values are some thousand times larger. RepDistiller first trains with this loss alone, then with the labels: so does
``+kd.schedule.hard.start=0.2 +kd.schedule.fsp.end=0.2``, with one learning rate schedule over both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import Pair, paired_maps, same_size

VARIANTS = ("code", "torchdistill")


def flow(first: Tensor, second: Tensor, variant: str = "code") -> Tensor:
    """Return the inner products of channels, mean over places: [B, C, H, W], [B, D, I, J] -> [B, C, D].

    Args:
        variant: "code" average-pools the larger map, "torchdistill" max-pools it.
    """
    if variant == "code":
        first, second = same_size(first, second)
    else:
        height, width = (min(sides) for sides in zip(first.shape[-2:], second.shape[-2:], strict=True))
        first, second = max_pool(first, height, width), max_pool(second, height, width)
    first, second = first.flatten(-2), second.flatten(-2)
    return first @ second.transpose(-1, -2) / first.shape[-1]


def flow_distance(student: Tensor, teacher: Tensor, variant: str = "code") -> Tensor:
    """Return the distance of two matrices [B, C, D], a scalar.

    Args:
        variant: "code", the squared difference, mean over all; "torchdistill", the lengths of the columns of the
            difference, mean over B, sum over D.
    """
    apart = student - teacher
    if variant == "code":
        return apart.square().mean()
    return torch.linalg.vector_norm(apart, dim=-2).sum(-1).mean()


def max_pool(x: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.adaptive_max_pool2d(x, (height, width))``; its gradient is deterministic on every device, too."""
    for dim, size in ((-2, height), (-1, width)):
        inside = x.shape[dim]
        if inside != size:
            ends = [(i * inside // size, -(-(i + 1) * inside // size)) for i in range(size)]
            x = torch.stack([x.narrow(dim, first, end - first).amax(dim) for first, end in ends], dim)
    return x


class FSP(nn.Module):
    """``flow_distance`` of successive maps, summed over pairs.

    Args:
        variant: of ``flow`` and ``flow_distance``.
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, variant: str = "code", stages: Sequence[int] | None = None):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant, self.stages = variant, stages
        self.align = nn.ModuleList()

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build a 1x1 convolution for each pair of maps of different channels.

        Raises:
            ValueError: a teacher without maps, or fewer than two pairs of maps.
        """
        widths = [(own.shape[1], given.shape[1]) for own, given in paired_maps(student, teacher, self.stages)]
        if len(widths) < 2:
            raise ValueError(
                "kd=fsp compares what lies between two successive maps, and there is one pair of maps of student and "
                "teacher: name two or more kd.stages, or choose networks that show more maps"
            )
        self.align = nn.ModuleList(
            nn.Identity() if own == given else nn.Conv2d(own, given, 1, bias=False) for own, given in widths
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        pairs = paired_maps(student, teacher, self.stages)
        pairs = [(align(own), given) for align, (own, given) in zip(self.align, pairs, strict=True)]
        return sum(self.distance(first, second) for first, second in zip(pairs, pairs[1:], strict=False))

    def distance(self, first: Pair, second: Pair) -> Tensor:
        """Return the distance of one pair of successive maps, each of the student and of the teacher."""
        own, given = (flow(*maps, self.variant) for maps in zip(first, second, strict=True))
        return flow_distance(own, given, self.variant)
