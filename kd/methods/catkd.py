"""Class Attention Transfer Based Knowledge Distillation (Guo, Yan, Li, Lin, CVPR 2023),
https://arxiv.org/abs/2304.12777.

What the classifier says of each place of the last map, one map a class (class activation maps), pooled to a few places
and compared with the teacher's. No adapter: the maps of both networks have as many channels as there are classes.
Costs the linear classifier at each place instead of once.

The authors rebuild networks so that the classifier, as a 1x1 convolution, comes before the pooling; behind a global
average pool and a linear layer the same maps are read off without a change. Any other head (a norm, an activation or a
hidden layer behind the pool) has no maps whose mean is the logits: a teacher with one is refused, a student with one
is warned of, since dropout looks the same. With dropout in its head a student's maps are dropped place by place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs, class_activation
from kd.methods._common import warn_single_map
from kd.runtime.user_warnings import warn_user

ROUNDING = 0.02  # of the largest value: bfloat16 came to 0.004
# A map of far-apart values, by channel in turn: heads of pool and linear miss by 1e-7 of the largest value; others,
# which small values may hide, by 0.15 (MobileNetV3) to 0.9 (ConvNeXt). Measured on 14 untrained networks of timm.
PROBE = [[[300.0, -100.0], [0.0, 50.0]], [[-200.0, 100.0], [20.0, 0.0]], [[0.0, 0.0], [-300.0, 250.0]]]


def class_attention_loss(student: Tensor, teacher: Tensor, size: int = 2, normalize: bool = False) -> Tensor:
    """Return the mean squared difference of pooled class maps, a scalar: mean over B, K and places.

    Args:
        student, teacher: [B, K, H, W] and [B, K, I, J].
        size: both are average-pooled to size x size; a smaller map repeats its places.
        normalize: give each pooled map length 1, so that only its form counts.
    """
    student, teacher = (F.adaptive_avg_pool2d(maps, size).flatten(2) for maps in (student, teacher))
    if normalize:
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return (student - teacher).square().mean()


class CATKD(nn.Module):
    """Class maps of the student against the teacher's.

    Args:
        size: places a side that maps are pooled to. normalize: compare their form alone.
    """

    needs = frozenset({"class_maps"})

    def __init__(self, size: int = 2, normalize: bool = False):
        super().__init__()
        if not 1 <= size <= 256:
            raise ValueError(f"kd.size is the side of the pooled class maps and must be 1 to 256, got {size}")
        self.size, self.normalize = size, normalize

    def bind(self, context: Context) -> None:
        """Refuse a teacher whose head is more than pool and linear: asked with a map so large that nothing hides."""
        with torch.no_grad():
            last, _ = context.teacher.forward_intermediates(
                torch.zeros(
                    1, 3, context.image_size, context.image_size, device=next(context.teacher.parameters()).device
                )
            )
            if last.ndim != 4:
                return  # an ensemble, which ``setup`` refuses
            probe = last.new_tensor(PROBE)[torch.arange(last.shape[1]) % len(PROBE)]  # [C, 2, 2]
            maps, logits = class_activation(context.teacher, probe[None]), context.teacher.forward_head(probe[None])
        if not _maps_make_logits(Outputs(logits, class_maps=maps)):
            raise ValueError(
                "kd=catkd needs class maps whose mean over places is the logits, and those of this teacher are not so: "
                "its head is more than a global average pool and a linear layer. Choose a ResNet or another teacher "
                "with such a head, or a method that reads its maps, e.g. kd=at"
            )

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build; refuses a teacher without class maps.

        Warns where the student's do not: that may be its dropout, or a head that is more than pool and linear.
        """
        if teacher is None or teacher.class_maps is None:
            raise ValueError(
                "kd=catkd reads the class maps of the teacher, and the teacher shows none: a logit cache and an ensemble have "
                "logits alone. Choose a single teacher, teacher.source=auto, or a logit method"
            )
        warn_single_map(teacher.class_maps, "kd=catkd", "its class maps say no more than its logits")
        if not _maps_make_logits(student):
            warn_user(
                "kd=catkd: the mean of the student's class maps over places is not its logits. With dropout before its "
                "classifier that is as it must be; else its head is more than a global average pool and a linear "
                "layer, and what it learns of class maps need not help its logits"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return class_attention_loss(student.class_maps, teacher.class_maps, self.size, self.normalize)


def _maps_make_logits(outputs: Outputs) -> bool:
    apart = outputs.class_maps.mean((2, 3)) - outputs.logits
    return bool(apart.abs().max() <= ROUNDING * outputs.class_maps.abs().max())
