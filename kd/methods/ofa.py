"""One-for-All (Hao, Guo, Han, Tang, Hu, Wang, Xu, NeurIPS 2023), https://arxiv.org/abs/2310.19444: soft labels from a
teacher of another kind, such as a transformer for a CNN.

Networks of different kinds agree in their answers and not in their maps. So all that is compared is the teacher's
answer, in which the label counts more the surer the teacher is of it: -mean_b sum_k [(p_k + y_k)^e - y_k] log q_k with
p of the teacher, y the label as 0 or 1, and e above 1. At e = 1 it is the cross entropy with the soft labels; its value
is not 0 where student and teacher agree. There is no T^2. ``OFA`` compares the student's logits; ``OFAStages`` gives
each stage of the student a head of its own, which learns the same. Costs a softmax, and in training the heads:
depthwise and 1x1 convolutions that halve the map and double its channels down to the last stage's size, a pool and a
linear layer.

The authors' code raises the factor of every class to the power e (``variant="code"``), so probabilities of other
classes shrink. As the paper is described, only the label's factor is raised (``variant="paper"``). The cross entropy
with the labels is a separate term. The code takes the logarithm of a softmax, which is infinite in float32 where logits
lie far apart. For a mixture of two images (mixup) the label is that of the image with the larger share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import paired_maps

VARIANTS = ("code", "paper")
MOST_STAGES = 4  # the published networks have four


def label_factors(
    teacher_logits: Tensor, target: Tensor, temperature: float | Tensor, power: float | Tensor, variant: str = "code"
) -> Tensor:
    """Return what the log-probability of each class is weighted with, [B, K].

    Args:
        teacher_logits: [B, K]. target: [B], int64. temperature: T > 0. power: the paper's e.
    """
    p = torch.softmax(teacher_logits / temperature, dim=-1)
    label = torch.arange(p.shape[-1], device=p.device) == target[:, None]
    y = label.to(p.dtype)
    raised = (p + y) ** power - y
    return raised if variant == "code" else torch.where(label, raised, p)


def enhanced_soft_labels(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float | Tensor,
    power: float | Tensor,
    variant: str = "code",
) -> Tensor:
    """Return the cross entropy with ``label_factors``, a scalar: summed over K, mean over B; no T^2."""
    factors = label_factors(teacher_logits, target, temperature, power, variant)
    return -(factors * torch.log_softmax(student_logits / temperature, dim=-1)).sum(-1).mean()


class OFA(nn.Module):
    """``enhanced_soft_labels`` of the student's logits.

    Args:
        temperature: T of both softmaxes. power: e, at least 1. variant: "code" or "paper".
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image

    def __init__(self, temperature: float | Tensor = 1.0, power: float | Tensor = 1.5, variant: str = "code"):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if not isinstance(power, Tensor) and not power >= 1:
            raise ValueError(f"kd.power must be at least 1: below, the label counts less than the others, got {power}")
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.temperature, self.power, self.variant = temperature, power, variant

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def compare(self, student_logits: Tensor, teacher: Outputs, batch: Batch) -> Tensor:
        """Return the loss of logits [B, K], a scalar."""
        settings = self.temperature, self.power, self.variant
        return enhanced_soft_labels(student_logits, teacher.logits, batch.target, *settings)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.compare(student.logits, teacher, batch)


def halve(inside: int, outside: int) -> list[nn.Module]:
    """Return two separable 3x3 convolutions, the first of stride 2, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for stride, channels in ((2, inside), (1, outside)):
        layers += [
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            nn.Conv2d(inside, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    return layers


def stage_head(inside: int, width: int, above: int, classes: int) -> nn.Sequential:
    """Return the head of a stage: [B, inside, H, W] -> [B, classes].

    Args:
        width: channels before the pool. above: the number of deeper stages; each halves the map once.
    """
    channels = [inside * 2**step for step in range(above)] + [width]
    layers = [layer for pair in zip(channels, channels[1:], strict=False) for layer in halve(*pair)]
    layers = layers or [nn.Conv2d(inside, width, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class OFAStages(OFA):
    """The same loss for a head at each stage of the student, summed.

    Args:
        temperature, power, variant: of ``OFA``.
        stages: of the student's maps, from the deep end, -1 is the last; None: as many as both networks have, up to 4.
    """

    needs = frozenset({"features"})

    def __init__(
        self,
        temperature: float | Tensor = 1.0,
        power: float | Tensor = 1.5,
        variant: str = "code",
        stages: Sequence[int] | None = None,
    ):
        super().__init__(temperature, power, variant)
        self.stages = stages

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build a head for each stage.

        Raises:
            ValueError: a stage that one of the two networks does not have.
        """
        pairs = paired_maps(student, teacher, self.stages)  # checks the stages
        every = range(-min(len(pairs), MOST_STAGES), 0)
        self.places = sorted(every if self.stages is None else self.stages)
        maps = student.features
        width = max(maps[-1].shape[1], teacher.features[-1].shape[1])
        classes = student.logits.shape[-1]
        self.heads = nn.ModuleList(stage_head(maps[k].shape[1], width, -1 - k, classes) for k in self.places)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        heads = zip(self.heads, self.places, strict=True)
        return sum(self.compare(head(student.features[k]), teacher, batch) for head, k in heads)
