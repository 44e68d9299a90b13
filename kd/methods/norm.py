"""NORM: Knowledge Distillation via N-to-One Representation Matching (Liu, Li, Li, Yao, ICLR 2023),
https://arxiv.org/abs/2305.13803.

Behind the student's last map come two linear layers: a 1x1 convolution and batch norm to N times the teacher's
channels, and a second pair back to the student's; their result is added to the map, as in the authors' code. Each of
the N groups of channels in the middle should be the teacher's last map. The student's own classifier reads the sum.

Costs 2 N C_student C_teacher weights in training AND in the deployed student, where parameters, MACs, size and latency
count them; the paper merges the layers into the classifier after training, which is not done here. A student of tens of
thousands of parameters is smaller than its two layers: lower N. The loop's layer norm of all logits is left out.

A larger map is max-pooled to the smaller, as published. In the deployed network and in ``features`` the wide map takes
the place of the student's last one, so another term that reads the last map reads it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs, is_map
from kd.methods._common import conv_norm, paired_maps
from kd.methods.fsp import max_pool


def group_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the sum over N groups of channels of the mean squared difference from the teacher's map, a scalar.

    Args:
        student: [B, N C, H, W]. teacher: [B, C, I, J]; the larger map is max-pooled to the size of the smaller.
    """
    height, width = (min(sides) for sides in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    student, teacher = max_pool(student, height, width), max_pool(teacher, height, width)
    groups = student.unflatten(1, (-1, teacher.shape[1]))
    return (groups - teacher.unsqueeze(1)).square().mean() * groups.shape[1]


class NORM(nn.Module):
    """``group_distance`` of the widened map; ``bind`` replaces the student's network by ``Widened``.

    Args:
        copies: N, the groups of channels.
    """

    needs = frozenset({"features"})

    def __init__(self, copies: int = 8):
        super().__init__()
        if copies < 1:
            raise ValueError(f"kd.copies is a number of groups and must be 1 or more, got {copies}")
        self.copies = copies

    def bind(self, context: Context) -> nn.Module:
        return widen(context.student, context.teacher, self.copies, context.image_size)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        paired_maps(student, teacher, (-1,))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return group_distance(student.features[-1], teacher.features[-1])


def widen(student: nn.Module, teacher: nn.Module, copies: int, image_size: int) -> nn.Module:
    """Return a copy of ``student`` (a ``Normalized``) with the two layers between its last map and its head.

    Raises:
        ValueError: a teacher without maps, or a student whose head does not read a map.
    """
    with torch.no_grad():
        image = torch.linspace(0, 1, 3 * image_size**2).view(1, 3, image_size, image_size)
        _, features = teacher.forward_intermediates(image.to(next(teacher.parameters()).device))
        if not features:
            raise ValueError(
                "kd=norm compares with the teacher's last map, and this teacher shows none, as an ensemble does. "
                "Choose a single teacher or a logit method"
            )
        extended = copy.deepcopy(student)
        own = student.prepare(image.to(student.mean.device))
        last, maps = copy.deepcopy(student.network).eval().forward_intermediates(own)
    if not is_map(last, maps):
        raise ValueError(
            "kd=norm widens the student's last map, and the head of this student reads something else, as those of "
            "transformers do. Choose another student"
        )
    inside, wide = last.shape[1], copies * features[-1].shape[1]
    extended.network = Widened(extended.network, conv_norm(inside, wide), conv_norm(wide, inside))
    return extended.to(student.mean.device)


class Widened(nn.Module):
    """A network with two linear layers around its last map.

    Args:
        body: the whole network; its head reads the sum of its last map and what ``narrow`` makes of the wide one.
    """

    def __init__(self, body: nn.Module, wide: nn.Module, narrow: nn.Module):
        super().__init__()
        self.body, self.wide, self.narrow = body, wide, narrow

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what the head reads, and the body's maps with the wide one in place of the last."""
        last, features = self.body.forward_intermediates(image)
        wide = self.wide(last)
        return last + self.narrow(wide), [*features[:-1], wide]

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        return self.body.forward_head(last, pre_logits=pre_logits)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_intermediates(image)[0])
