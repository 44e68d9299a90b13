"""Paraphrasing Complex Network: Network Compression via Factor Transfer (Kim et al. 2018),
https://arxiv.org/abs/1802.04977.

A paraphraser, a convolutional autoencoder, computes *factors* from the teacher's last map; a translator computes
factors from the student's. The student learns to make both equal, up to their length.

Costs six 3x3 convolutions on the teacher's map, 31.5 D^2 weights at rate 1/2 (8 million for 512 channels), and three on
the student's, in training alone: with a small student this is most of a step.

The published paraphraser is trained first and then frozen (6 epochs of L1 in the authors' code, 30 of squared error in
RepDistiller). Here it trains in the same loop: the loss is ``weight`` times the distance of factors, which trains
student and translator alone, plus the squared error of reconstruction, which trains the paraphraser alone. No parameter
gets both gradients, and ``weight`` does not reach the paraphraser. In the first part of the training, ``warmup``, the
distance has weight 0. Afterwards the paraphraser still trains, so the student follows a target that moves a little.
Maps of different sizes are pooled to the smaller size first.

RepDistiller compares the attention maps of the factors, ``variant="repdistiller"``: at p = 2 attention transfer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import paired_maps, same_size
from kd.methods.at import attention_map

EPS = 1e-12  # of a length, as in F.normalize


def direction(x: Tensor) -> Tensor:
    """Return each image's values at unit length, [B, ...] -> [B, N]; zeros stay zeros, with gradient 0.

    F.normalize returns the same values, but has gradients of 1e12 at zero.
    """
    x = x.flatten(1)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.where(length > EPS, x / length.clamp_min(EPS), 0.0)


def factor_distance(student: Tensor, teacher: Tensor, variant: str = "paper", p: int = 1) -> Tensor:
    """Return the distance of the student's factors from the teacher's; the larger map is pooled to the smaller.

    Args:
        student, teacher: [B, M, H, W] and [B, M, I, J]; for "repdistiller" the channel counts may differ.
        variant: "paper" compares directions: p = 1 is the mean absolute difference over all elements, p = 2 the L2
            distance, mean over B. "repdistiller": |difference of attention maps|^p, mean over B, H and W.
        p: 1 or 2.
    """
    student, teacher = same_size(student, teacher)
    if variant == "repdistiller":
        return (attention_map(student) - attention_map(teacher)).abs().pow(p).mean()
    apart = direction(student) - direction(teacher)
    return apart.abs().mean() if p == 1 else torch.linalg.vector_norm(apart, dim=1).mean()


VARIANTS = ("paper", "repdistiller")


class FactorTransfer(nn.Module):
    """``weight`` times the distance of factors, plus the paraphraser's own loss.

    Args:
        rate: channels of the factors as a share of the teacher's (the paper's k).
        weight: of the distance. warmup: share of the training in which the distance has weight 0.
        variant, p: of ``factor_distance``.
    """

    needs = frozenset({"features"})

    def __init__(
        self,
        variant: str = "paper",
        p: int = 1,
        rate: float = 0.5,
        weight: float | Tensor = 500.0,
        warmup: float = 0.1,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"kd.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        for name, value, good, rule in (
            ("p", p, p in (1, 2), "must be 1 or 2"),
            ("rate", rate, rate > 0, "must be above 0"),
            ("warmup", warmup, 0 <= warmup < 1, "must lie in [0, 1)"),
        ):
            if not good:
                raise ValueError(f"kd.{name} {rule}, got {value}")
        self.variant, self.p, self.rate, self.weight, self.warmup = variant, p, rate, weight, warmup

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the paraphraser (encoder and decoder) and the translator.

        Raises:
            ValueError: last maps of a single place, which have no attention to compare (``repdistiller``).
        """
        own, other = _last(student, teacher)
        if self.variant == "repdistiller" and own.shape[-2:] == (1, 1):
            raise ValueError(
                "kd.variant=repdistiller compares where factors are active, and the last map of student or teacher is "
                "a single place: use kd.variant=paper, or a larger data.image_size"
            )
        inside, outside = own.shape[1], other.shape[1]
        factors = max(1, round(self.rate * outside))
        self.encoder = _convolutions(outside, outside, factors, factors)
        self.decoder = _convolutions(factors, factors, outside, outside)
        self.translator = _convolutions(inside, inside, factors, factors)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own, other = _last(student, teacher)
        factors = self.encoder(other)
        reconstruction = (self.decoder(factors) - other).square().mean()
        distance = factor_distance(self.translator(own), factors.detach(), self.variant, self.p)
        return self.weight * float(batch.progress >= self.warmup) * distance + reconstruction


def _last(student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
    (pair,) = paired_maps(student, teacher, (-1,))
    return same_size(*pair)


def _convolutions(*channels: int) -> nn.Sequential:
    """3x3 convolutions at stride 1, each followed by a leaky ReLU."""
    steps = zip(channels, channels[1:], strict=False)
    return nn.Sequential(*(m for i, o in steps for m in (nn.Conv2d(i, o, 3, padding=1), nn.LeakyReLU(0.1))))
