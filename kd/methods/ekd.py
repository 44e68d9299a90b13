"""Evidential Knowledge Distillation (Xiang, Gao, Xu, ICCV 2025), https://github.com/lyxiang-casia/EKD.

A network's answer becomes a Dirichlet distribution over class probabilities: its parameters are evidence, a function of
the logits, plus e^lambda, which each class has without evidence. Three terms, as in the authors' code:

- labels, in place of the cross entropy: the mean of -log p_y under the student's distribution,
  psi(S) - psi(a_y) with a = exp(z) + e^lambda and S their sum;
- expectation, in place of Hinton's term: T^2 KL of the distributions' means, (exp(z / T) + e^lambda) / sum;
- distribution: KL(Dirichlet of the teacher || Dirichlet of the student). Its evidence is another function,
  log(1 + softplus(z)).

So a row of logits that are all low is an unsure answer: unlike a softmax, these terms change if all logits of an image
move together. Costs a few special functions of the logits: negligible beside the networks. The code takes exp(z), which
overflows in float32 near z = 89; here everything of exp(z) is computed from logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise
from kd.methods.hinton import soft_label_kl_each
from kd.methods.supervised import CrossEntropy

LARGE = 10.0  # above exp(LARGE) three terms of the series of digamma have all digits of float64


def as_tensor(x: float | Tensor, like: Tensor) -> Tensor:
    """Return a scalar tensor; a tensor as it is."""
    return x if isinstance(x, Tensor) else torch.full((), x, dtype=like.dtype, device=like.device)


def digamma_of_exp(x: Tensor) -> Tensor:
    """Return psi(exp(x)), also where exp(x) overflows."""
    inverse = torch.exp(-x.clamp(min=LARGE))
    series = x - inverse / 2 - inverse.square() / 12
    return torch.where(x > LARGE, series, torch.digamma(torch.exp(x.clamp(max=LARGE))))


def evidential_cross_entropy(logits: Tensor, target: Tensor, prior: float | Tensor) -> Tensor:
    """Return psi(S) - psi(a_y) of each image, [B]; a = exp(z) + e^prior.

    Args:
        logits: [B, K]. target: [B], int64. prior: the paper's lambda, a number or a scalar tensor.
    """
    log_a = torch.logaddexp(logits, as_tensor(prior, logits))
    own = log_a.gather(-1, target[:, None]).squeeze(-1)
    return digamma_of_exp(log_a.logsumexp(-1)) - digamma_of_exp(own)


def expectation_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, prior: float | Tensor
) -> Tensor:
    """Return T^2 KL(teacher || student) of the means of both distributions, a scalar: summed over K, mean over B.

    Args:
        student_logits, teacher_logits: [B, K]. temperature: T > 0. prior: the paper's lambda.
    """
    floor = as_tensor(prior, teacher_logits)
    own, given = (torch.logaddexp(logits / temperature, floor) for logits in (student_logits, teacher_logits))
    with torch.no_grad():  # own - given without a difference of numbers that are nearly equal
        x = (student_logits - teacher_logits) / temperature
        close = torch.log1p(torch.sigmoid(teacher_logits / temperature - floor) * torch.expm1(x.clamp(-1, 1)))
        apart = torch.where(x.abs() < 1, close, own - given)
    return soft_label_kl_each(temperature * own, temperature * given, temperature, temperature * apart).mean()


def dirichlet_kl(student_logits: Tensor, teacher_logits: Tensor, prior: float | Tensor) -> Tensor:
    """Return KL(Dirichlet of the teacher || Dirichlet of the student), a scalar: the mean over B.

    Args:
        student_logits, teacher_logits: [B, K]; a = log(1 + softplus(z)) + e^prior. prior: the paper's lambda.
    """
    floor = as_tensor(prior, teacher_logits).exp()
    own, given = (torch.log1p(F.softplus(logits)) + floor for logits in (student_logits, teacher_logits))
    own_sum, given_sum = own.sum(-1), given.sum(-1)
    constants = torch.lgamma(given_sum) - torch.lgamma(own_sum) - (torch.lgamma(given) - torch.lgamma(own)).sum(-1)
    slope = torch.digamma(given) - torch.digamma(given_sum)[:, None]
    each = constants + ((given - own) * slope).sum(-1)
    return _precise.with_value(each.clamp(min=0), each).mean()  # rounding makes it negative where both agree


def mean_over_labels(each: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    """Return the mean of a loss over a batch as ``CrossEntropy`` has it: mixtures, class weights, missing labels.

    Args:
        each: the loss of each image from targets, [B] -> [B].
    """
    pairs = [(batch.target, 1.0)]
    if batch.mixup_target is not None:
        pairs = [(batch.target, batch.mixup_lam), (batch.mixup_target, 1 - batch.mixup_lam)]
    total: float | Tensor = 0.0
    for target, share in pairs:
        label = target.clamp(min=0)
        weight = 1.0 if batch.class_weight is None else batch.class_weight[label]
        total = total + share * weight * (target >= 0) * each(label)
    return total.mean() / (1.0 if batch.labelled is None else batch.labelled)


def check_prior(prior: float | Tensor) -> None:
    """Raise ValueError for a lambda of which e^lambda is no number above 0."""
    if not isinstance(prior, Tensor) and not (math.isfinite(prior) and abs(prior) <= 50):
        raise ValueError(f"kd.prior is the logarithm of what a class has without evidence: -50 to 50, got {prior}")


class EvidentialCrossEntropy(CrossEntropy):
    """The labels' term.

    Args:
        prior: the paper's lambda.
    """

    def __init__(self, prior: float | Tensor = -1.22):
        super().__init__()
        check_prior(prior)
        self.prior = prior

    def mean(self, logits: Tensor, batch: Batch) -> Tensor:
        return mean_over_labels(lambda target: evidential_cross_entropy(logits, target, self.prior), batch)


class EvidentialExpectation(nn.Module):
    """The distance of the means of both distributions.

    Args:
        temperature: T of the evidence. prior: the paper's lambda.
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 4.0, prior: float | Tensor = -1.22):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        check_prior(prior)
        self.temperature, self.prior = temperature, prior

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return expectation_kl(student.logits, teacher.logits, self.temperature, self.prior)


class EvidentialDistribution(nn.Module):
    """The distance of the distributions themselves.

    Args:
        prior: the paper's lambda.
    """

    needs = frozenset({"logits"})

    def __init__(self, prior: float | Tensor = -1.22):
        super().__init__()
        check_prior(prior)
        self.prior = prior

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return dirichlet_kl(student.logits, teacher.logits, self.prior)
