"""Curriculum Temperature for Knowledge Distillation (Li, Li, Yang, Zhao, Song, Luo, Li, Yang, AAAI 2023),
https://arxiv.org/abs/2211.16231.

Hinton's term at a temperature that is learned against the student: T = lowest + span sigmoid(theta), and where the
student goes down the loss, theta goes up. Its gradient is multiplied by -lambda, and lambda rises from 0 to 1 along
half a cosine over the first share of the training, so that the task hardens slowly. Costs one number more than Hinton's
term (``global``), or a small MLP (``instance``). Theta starts at 1, as published: T = 15.6 of 1 to 21.

- An optimiser that divides gradients by their size, as AdamW does, takes most of the curriculum out: once lambda is not
  0, a step of theta is about as long as the learning rate. Published numbers are of SGD, where lambda scales the step.
- Lambda follows the progress of the training step by step; the published code takes a step an epoch, and has 0.02 in
  the first.
- ``instance`` gives each image a temperature of its own, from what both networks say of it. The published code leaves
  that network out. Here it is linear, ReLU, linear, on the probabilities of both at T = 1; its width (64), its input
  and its start (about theta = 1) are ours. It sees probabilities without gradient: reversed, theirs would teach the
  student to be hard to teach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl

VARIANTS = ("global", "instance")
WIDTH = 64  # of the MLP that looks at an image's probabilities


def reversal(progress: float, curriculum: float) -> float:
    """Lambda: 0 at the start, 1 after the share ``curriculum`` of the training, half a cosine between."""
    along = min(progress / curriculum, 1.0) if curriculum > 0 else 1.0
    return 0.5 * (1 - math.cos(math.pi * along))


def reversed_gradient(x: Tensor, strength: float | Tensor) -> Tensor:
    """``x`` itself, whose gradient is -strength times what arrives (Ganin and Lempitsky 2015, arXiv 1409.7495)."""
    still = x.detach()
    return still - strength * (x - still)  # x - still is 0 exactly; no autograd.Function, so vmap needs no rule


def learned_temperature(theta: Tensor, lowest: float | Tensor, span: float | Tensor) -> Tensor:
    """T = lowest + span sigmoid(theta), of the shape of theta."""
    return lowest + span * torch.sigmoid(theta)


class CTKD(nn.Module):
    """Hinton's term at a temperature that makes it hard.

    Args:
        variant: "global", one temperature; "instance", one for each image.
        lowest, span: T lies between lowest and lowest + span; numbers or tensors.
        curriculum: share of the training over which the reversal rises to its full strength.
    """

    needs = frozenset({"logits"})

    def __init__(
        self,
        variant: str = "global",
        lowest: float | Tensor = 1.0,
        span: float | Tensor = 20.0,
        curriculum: float = 10 / 240,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        for name, value in (("lowest", lowest), ("span", span)):
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"kd.{name} must be above 0, got {value}")
        if not 0 <= curriculum <= 1:
            raise ValueError(f"kd.curriculum is a share of the training and must lie in [0, 1], got {curriculum}")
        self.variant, self.lowest, self.span, self.curriculum = variant, lowest, span, curriculum

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Build what the temperature is made of."""
        if self.variant == "global":
            self.theta = nn.Parameter(torch.ones(()))
            return
        classes = student.logits.shape[-1]
        self.look = nn.Sequential(nn.Linear(2 * classes, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        nn.init.ones_(self.look[-1].bias)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        strength = reversal(batch.progress, self.curriculum)
        if self.variant == "global":
            temperature = learned_temperature(reversed_gradient(self.theta, strength), self.lowest, self.span)
            return soft_label_kl(student.logits, teacher.logits, temperature)
        said = torch.cat([student.logits.detach().softmax(-1), teacher.logits.softmax(-1)], dim=-1)
        theta = reversed_gradient(self.look(said), strength)  # [B, 1]
        temperature = learned_temperature(theta, self.lowest, self.span)
        return soft_label_kl(student.logits, teacher.logits, temperature)
