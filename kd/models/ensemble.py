"""An ensemble: several teachers whose logits are combined; it has no maps and no embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.models.logits_only import LogitsOnly

RULES = ("probabilities", "log_mean_exp", "logits")


def combine(logits: Tensor, rule: str) -> Tensor:
    """Combine the logits of M classifiers: [M, B, K] -> [B, K].

    Args:
        rule: "probabilities": the logarithm of the mean of the softmaxes (at T = 1), the arithmetic mean of Hinton et
            al. 2015; "log_mean_exp": the same without the softmax, so that a more confident member with larger logits
            counts more; "logits": the mean of the logits, which is the geometric mean of the softmaxes.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"teacher.combine must be one of {', '.join(RULES)}, got {rule!r}")
    if rule == "logits":
        return logits.mean(0)
    members = logits.log_softmax(-1) if rule == "probabilities" else logits
    return members.logsumexp(0) - math.log(len(logits))


class Ensemble(LogitsOnly):
    """Networks for the same image, each with its own normalisation, as one network with logits alone."""

    def __init__(self, members: Sequence[nn.Module], rule: str = "probabilities"):
        super().__init__()
        self.members, self.rule = nn.ModuleList(members), rule

    def forward(self, image: Tensor) -> Tensor:
        return combine(torch.stack([member(image).float() for member in self.members]), self.rule)
