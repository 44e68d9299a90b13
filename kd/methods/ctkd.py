"""Curriculum Temperature for Knowledge Distillation (Li, Li, Yang, Zhao, Song, Luo, Li, Yang, AAAI 2023),
https://arxiv.org/abs/2211.16231.

Hinton's term at a temperature that is learned against the student: T = lowest + span sigmoid(theta), and theta climbs
the loss that the student descends. The method multiplies the gradient of theta by -lambda; lambda rises from 0 to 1
along half a cosine over the first part of the training, so that the task becomes harder slowly. Costs one number more
than Hinton's term (``global``), or a small MLP (``instance``). Theta starts at 1, as published: T = 15.6, in a range
from 1 to 21.

- An optimiser that divides gradients by their size, as AdamW does, removes most of the curriculum: once lambda is not
  0, a step of theta is about as long as the learning rate. Published numbers use SGD, where lambda scales the step.
- Lambda changes with every training step; the published code changes it once an epoch, and has 0.02 in the first.
- ``instance`` computes a temperature for each image from the probabilities of both networks at T = 1. The published
  code does not contain that network. Here it is linear, ReLU, linear; its width (64), its input and its start (about
  theta = 1) are our choice. It reads probabilities without gradient: a reversed gradient would train the student to be
  hard to teach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl

VARIANTS = ("global", "instance")
WIDTH = 64  # of the MLP that reads an image's probabilities


def reversal(progress: float, curriculum: float) -> float:
    """Return lambda: 0 at the start, 1 after the share ``curriculum`` of the training, half a cosine between."""
    along = min(progress / curriculum, 1.0) if curriculum > 0 else 1.0
    return 0.5 * (1 - math.cos(math.pi * along))


def reversed_gradient(x: Tensor, strength: float | Tensor) -> Tensor:
    """Return ``x`` with its gradient multiplied by -strength (Ganin and Lempitsky 2015, arXiv 1409.7495)."""
    fixed = x.detach()
    return fixed - strength * (x - fixed)  # x - fixed is 0 exactly; no autograd.Function, so vmap needs no rule


def learned_temperature(theta: Tensor, lowest: float | Tensor, span: float | Tensor) -> Tensor:
    """Return T = lowest + span sigmoid(theta), in the shape of theta."""
    return lowest + span * torch.sigmoid(theta)


class CTKD(nn.Module):
    """Hinton's term at a learned temperature that makes the loss larger.

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
        """Build theta, or the MLP that computes it."""
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
        probabilities = torch.cat([student.logits.detach().softmax(-1), teacher.logits.softmax(-1)], dim=-1)
        theta = reversed_gradient(self.look(probabilities), strength)  # [B, 1]
        temperature = learned_temperature(theta, self.lowest, self.span)
        return soft_label_kl(student.logits, teacher.logits, temperature)
