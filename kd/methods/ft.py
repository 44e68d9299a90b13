"""Paraphrasing Complex Network: Network Compression via Factor Transfer (Kim et al. 2018),
https://arxiv.org/abs/1802.04977.

A paraphraser, a convolutional autoencoder, makes *factors* of the teacher's last map; a translator makes factors of the
student's; the student learns to make them alike, up to their length.

Costs six 3x3 convolutions on the teacher's map, 31.5 D^2 weights at rate 1/2 (8 million for 512 channels), and three on
the student's, for the training alone: next to a small student that is most of a step.

The published paraphraser is trained first and then kept (6 epochs of L1 in the authors' code, 30 of squared error in
RepDistiller). Here it learns in the same loop: the loss is ``weight`` times the distance of factors, which teaches
student and translator alone, plus the squared error of reconstruction, which teaches the paraphraser alone. No
parameter gets both gradients, and ``weight`` does not reach the paraphraser. For a first share of the training,
``warmup``, the distance does not count; after it the paraphraser goes on learning, so the student follows a target that
still moves a little. Maps of different size are pooled to the smaller before anything reads them.

RepDistiller compares not the factors but their attention maps, ``variant="repdistiller"``: at p = 2 attention transfer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import paired_maps, same_size
from kd.methods.at import attention_map

EPS = 1e-12  # of a length, as in F.normalize


def direction(x: Tensor) -> Tensor:
    """Return each image's values at unit length, [B, ...] -> [B, N]; zero everywhere stays so, with gradient 0.

    F.normalize gives the same values, and at zero gradients of 1e12.
    """
    x = x.flatten(1)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.where(length > EPS, x / length.clamp_min(EPS), 0.0)


def factor_distance(student: Tensor, teacher: Tensor, variant: str = "paper", p: int = 1) -> Tensor:
    """Return how far the student's factors are from the teacher's, the larger map pooled to the smaller.

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
        weight: of the distance. warmup: share of the training for which it does not count.
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
            ValueError: last maps of a single place, which have no attention to compare.
        """
        ours, theirs = _last(student, teacher)
        if self.variant == "repdistiller" and ours.shape[-2:] == (1, 1):
            raise ValueError(
                "kd.variant=repdistiller compares where factors are active, and the last map of student or teacher is "
                "a single place: take kd.variant=paper, or a larger data.image_size"
            )
        inside, outside = ours.shape[1], theirs.shape[1]
        factors = max(1, round(self.rate * outside))
        self.encoder = _convolutions(outside, outside, factors, factors)
        self.decoder = _convolutions(factors, factors, outside, outside)
        self.translator = _convolutions(inside, inside, factors, factors)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = _last(student, teacher)
        factors = self.encoder(theirs)
        reconstruction = (self.decoder(factors) - theirs).square().mean()
        distance = factor_distance(self.translator(ours), factors.detach(), self.variant, self.p)
        return self.weight * float(batch.progress >= self.warmup) * distance + reconstruction


def _last(student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
    (pair,) = paired_maps(student, teacher, (-1,))
    return same_size(*pair)


def _convolutions(*channels: int) -> nn.Sequential:
    """3x3 convolutions at stride 1, each with a leaky ReLU behind it."""
    steps = zip(channels, channels[1:], strict=False)
    return nn.Sequential(*(m for i, o in steps for m in (nn.Conv2d(i, o, 3, padding=1), nn.LeakyReLU(0.1))))
