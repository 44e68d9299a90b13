"""A Comprehensive Overhaul of Feature Distillation (Heo et al., ICCV 2019), https://arxiv.org/abs/1904.01866.

Each map of the student passes a 1x1 convolution and batch norm; the loss compares it with the teacher's map after a
margin ReLU, max(x, m) with a margin m < 0 for each channel. Where the teacher's value is not positive, a smaller value
of the student is correct and has no loss (partial L2). Stages have weights 1, 1/2, 1/4, ... from the deepest. Costs a
1x1 convolution a stage in training.

The paper reads maps before the ReLU, and computes m, the mean of a channel's negative values, from the batch norm in
front of it. Here a map is the output of the network's stage, for most networks after the ReLU: no value is negative, m
is 0, and the loss is |max(s, 0) - t|^2 where the teacher is at 0 and |s - t|^2 elsewhere. So with most networks less of
the paper is left than the name suggests. Where maps have negative values (GELU, SiLU, ConvNeXt's blocks), m is their
mean over all maps since the start of the training, kept in a buffer. Maps of different sizes are average-pooled to the
smaller size, as in mdistiller for the teacher's map. The teacher stays in eval mode; in the authors' code it is in
train mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import conv_norm, paired_maps, same_size


def partial_l2(student: Tensor, teacher: Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """Return the partial L2 distance, a scalar: summed over C, H and W, mean over B.

    With t = max(teacher, margin) it is (student - t)^2 where t > 0 or student > t, and 0 elsewhere.

    Args:
        student, teacher: [B, C, H, W], of one shape.
        margin: at most 0, a number or a tensor that broadcasts over [B, C, H, W].
    """
    target = torch.maximum(teacher, torch.as_tensor(margin, dtype=teacher.dtype, device=teacher.device))
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum((1, 2, 3)).mean()


class Margin(nn.Module):
    """The mean of each channel's negative values, over all maps seen in training; 0 without negative values."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("count", torch.zeros(channels))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [C, 1, 1]."""
        if self.training:
            count, total = (x < 0).sum((0, 2, 3)), x.clamp(max=0).sum((0, 2, 3))
            self.count += count
            self.mean += (total - count * self.mean) / self.count.clamp(min=1)
        return self.mean.to(x.dtype).view(-1, 1, 1)


class OFD(nn.Module):
    """Partial L2 through connectors, summed over stages with weights that halve towards the image.

    Args:
        stages: of the maps, from the deep end, -1 is the last; None uses as many as both networks have.
    """

    needs = frozenset({"features"})

    def __init__(self, stages: Sequence[int] | None = None):
        super().__init__()
        self.stages = stages

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        chosen = paired_maps(student, teacher, self.stages)
        self.connectors = nn.ModuleList(conv_norm(own.shape[1], given.shape[1]) for own, given in chosen)
        self.margins = nn.ModuleList(Margin(given.shape[1]) for _, given in chosen)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        losses = []
        for connector, margin, pair in zip(
            self.connectors, self.margins, paired_maps(student, teacher, self.stages), strict=True
        ):
            own, given = same_size(*pair)
            losses.append(partial_l2(connector(own), given, margin(pair[1])))
        return sum(loss / 2**above for above, loss in enumerate(reversed(losses)))
