"""Precise values of losses in float32, for the logs; the gradient of a loss stays the same, bit for bit.

T^2 KL of two softmaxes is a small difference of logarithms times a large number: rounding made it negative at T = 100
for close logits, and at T = 1e5 for any. Its gradient, T (p_student - p_teacher), has no factor T^2 and no such
problem. So a loss keeps its own gradient and takes its value from this module. Each value here is a sum of terms that
are at least 0, and no term is a difference of larger numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXP_TERMS = 12  # of a series for |x| < 1/2, in float64
LOG_TERMS = 9  # of a series for |x| < 1/4, in float64


def with_value(value: Tensor, loss: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``loss``."""
    same = loss - loss.detach()  # no autograd.Function, so vmap needs no rule
    return value.detach() + torch.where(loss.detach().isfinite(), same, loss)  # an infinite loss stays infinite


@torch.no_grad()
def kl(apart: Tensor, teacher_logits: Tensor, temperature: float | Tensor, written_out: Tensor) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)), precise to a few roundings, [B, 1], never below 0.

    With p of the teacher and x = (student - teacher) / T minus its mean under p, it is log sum_k p_k exp(x_k) =
    log(1 + sum_k p_k (exp(x_k) - 1 - x_k)).

    Args:
        apart: [B, K], the student's logits minus the teacher's. teacher_logits: [B, K].
        temperature: T > 0, a number, a tensor of one, or [B, 1].
        written_out: [B, 1], sum_k p_k log(p_k / q_k), the value where the two distributions are far apart.
    """
    log_p = torch.log_softmax(teacher_logits / temperature, dim=-1)
    p, x = log_p.exp(), apart / temperature
    x = x - (p * x).sum(-1, keepdim=True)
    # where x is large, p may be 0 in float32 while p exp(x) is not
    terms = torch.where(x.abs() < 0.5, p * exp_beyond(x), (log_p + x).exp() - p - p * x)
    beyond = terms.sum(-1, keepdim=True)
    return torch.where(beyond < 1, torch.log1p(beyond), written_out)  # also where it is infinite or NaN


@torch.no_grad()
def relative_kl(p: Tensor, q: Tensor, eps: float) -> Tensor:
    """Return sum_k p_k log((p_k + eps) / (q_k + eps)) of rows that sum to 1, precise to a few roundings, [B].

    With x = (q - p) / (p + eps) it is sum_k [p_k (x_k - log(1 + x_k)) + eps x_k].
    """
    x = (q - p) / (p + eps)
    below = torch.where(x.abs() < 0.25, _log_below(x), x - ((q + eps) / (p + eps)).log())
    return (p * below + eps * x).sum(-1)


@torch.no_grad()
def centred_softmax(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return softmax(logits / T) - 1 / K, [B, K], precise also where all probabilities are alike."""
    x = torch.expm1((logits - logits.amax(-1, keepdim=True)) / temperature)
    return (x - x.mean(-1, keepdim=True)) / (x + 1).sum(-1, keepdim=True)


def exp_beyond(x: Tensor) -> Tensor:
    """exp(x) - 1 - x for |x| < 1/2."""
    series = torch.ones_like(x)
    for n in range(EXP_TERMS, 2, -1):
        series = 1 + x / n * series
    return x.square() / 2 * series


def _log_below(x: Tensor) -> Tensor:
    """x - log(1 + x) for |x| < 1/4, by log(1 + x) = 2 artanh(y), y = x / (2 + x)."""
    y = x / (2 + x)
    series = torch.zeros_like(x)
    for n in range(2 * LOG_TERMS + 1, 1, -2):
        series = y.square() * (series + 1 / n)
    return x * y - 2 * y * series
