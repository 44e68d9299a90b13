"""Class Attention Transfer Based Knowledge Distillation (Guo, Yan, Li, Lin, CVPR 2023),
https://arxiv.org/abs/2304.12777.

The method applies the classifier at each place of the last map, which gives one map a class (class activation maps),
pools these maps to a few places, and compares the student's with the teacher's. It needs no adapter: both networks have
as many class maps as there are classes. Costs the linear classifier at each place instead of once.

The authors rebuild networks so that the classifier, as a 1x1 convolution, comes before the pooling. For a head of
global average pool and linear layer, the same maps follow from the weights without a change. Any other head (a norm, an
activation or a hidden layer after the pool) has no maps whose mean is the logits. A teacher with such a head is
refused. A student with such a head causes a warning only, because dropout in the head looks the same; it then acts on
the class maps place by place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs, class_activation, is_map
from kd.methods._common import warn_single_map
from kd.runtime.resampling import average_pool
from kd.runtime.user_warnings import warn_user

ROUNDING = 0.02  # relative to the largest value; measured in bfloat16: 0.004
# A map with large differences, channels in turn. Measured on 14 untrained networks of timm: heads of pool and linear
# layer miss by 1e-7 of the largest value, others by 0.15 (MobileNetV3) to 0.9 (ConvNeXt). Small values would hide that.
PROBE = [[[300.0, -100.0], [0.0, 50.0]], [[-200.0, 100.0], [20.0, 0.0]], [[0.0, 0.0], [-300.0, 250.0]]]


def class_attention_loss(student: Tensor, teacher: Tensor, size: int = 2, normalize: bool = False) -> Tensor:
    """Return the mean squared difference of pooled class maps, a scalar: mean over B, K and places.

    Args:
        student, teacher: [B, K, H, W] and [B, K, I, J].
        size: both are average-pooled to size x size; a smaller map repeats its places.
        normalize: scale each pooled map to length 1, so that only its pattern counts.
    """
    student, teacher = (average_pool(maps, size, size).flatten(2) for maps in (student, teacher))
    if normalize:
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return (student - teacher).square().mean()


class CATKD(nn.Module):
    """``class_attention_loss`` of the class maps of student and teacher.

    Args:
        size: side that class maps are pooled to. normalize: compare only their pattern.
    """

    needs = frozenset({"class_maps"})

    def __init__(self, size: int = 2, normalize: bool = False):
        super().__init__()
        if not 1 <= size <= 256:
            raise ValueError(f"kd.size is the side of the pooled class maps and must be 1 to 256, got {size}")
        self.size, self.normalize = size, normalize

    def bind(self, context: Context) -> None:
        """Check the teacher's head: see ``check_head``."""
        check_head(context, "kd=catkd")

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Check the class maps: see ``check_class_maps``; there is nothing to build."""
        check_class_maps(student, teacher, "kd=catkd")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return class_attention_loss(student.class_maps, teacher.class_maps, self.size, self.normalize)


def check_head(context: Context, method: str) -> None:
    """Check with a map of large values that the teacher's head is a global average pool and a linear layer.

    Raises:
        ValueError: the head is more than that.
    """
    with torch.no_grad():
        last, features = context.teacher.forward_intermediates(
            torch.zeros(1, 3, context.image_size, context.image_size, device=next(context.teacher.parameters()).device)
        )
        if not is_map(last, features):
            return  # an ensemble, a transformer; ``check_class_maps`` refuses it
        probe = last.new_tensor(PROBE)[torch.arange(last.shape[1]) % len(PROBE)]  # [C, 2, 2]
        maps, logits = class_activation(context.teacher, probe[None]), context.teacher.forward_head(probe[None])
    if not _maps_make_logits(Outputs(logits, class_maps=maps)):
        raise ValueError(
            f"{method} needs class maps whose mean over places is the logits, and this teacher has none: its head "
            "is more than a global average pool and a linear layer. Choose a ResNet or another teacher with such a "
            "head, or a method that reads other maps, e.g. kd=at"
        )


def check_class_maps(student: Outputs, teacher: Outputs | None, method: str) -> None:
    """Check the class maps of both networks.

    The mean of a student's class maps may differ from its logits because of dropout, or because its head is more than
    pool and linear layer: that is only a warning.

    Raises:
        ValueError: a teacher or a student without class maps.
    """
    if student.class_maps is None:
        raise ValueError(
            f"{method} reads the class maps of the student, and the student shows none, as transformers do: choose "
            "another student, or a logit method"
        )
    if teacher is None or teacher.class_maps is None:
        raise ValueError(
            f"{method} reads the class maps of the teacher, and the teacher shows none: cached logits, an "
            "ensemble and a transformer have none. Choose a single teacher, teacher.source=auto, or a logit method"
        )
    warn_single_map(teacher.class_maps, method, "its class maps hold no more than its logits")
    if not _maps_make_logits(student):
        warn_user(
            f"{method}: the mean of the student's class maps over places is not its logits. With dropout before its "
            "classifier this is normal. Without dropout its head is more than a global average pool and a linear "
            "layer, and learning class maps need not help its logits"
        )


def _maps_make_logits(outputs: Outputs) -> bool:
    apart = outputs.class_maps.mean((2, 3)) - outputs.logits
    return bool(apart.abs().max() <= ROUNDING * outputs.class_maps.abs().max())
