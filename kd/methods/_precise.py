"""What a loss is worth where float32 cannot tell it as it is written: the number that is logged, not what is learned.

T^2 KL of two softmaxes is a small difference of logarithms times a large number: at T = 100 of close logits, or at
T = 1e5 of any, rounding made it negative. Its gradient has no such trouble, for T (p_student - p_teacher) has no T^2
in it. So a loss keeps its gradient, bit for bit, and takes its value from here. All are sums of terms that are 0 or
more, none of them a difference of larger numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXP_TERMS = 12  # of a series for |x| < 1/2, in float64
LOG_TERMS = 9  # of a series for |x| < 1/4, in float64


def with_value(value: Tensor, loss: Tensor) -> Tensor:
    """``value``, with the gradient of ``loss``."""
    same = loss - loss.detach()  # no autograd.Function, so vmap needs no rule
    return value.detach() + torch.where(loss.detach().isfinite(), same, loss)  # one that is infinite stays so


@torch.no_grad()
def kl(apart: Tensor, teacher_logits: Tensor, temperature: float | Tensor, written_out: Tensor) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) to a few roundings of itself, [B, 1], never below 0.

    With p of the teacher and x = (student - teacher) / T less its mean under p, it is log sum_k p_k exp(x_k) =
    log(1 + sum_k p_k (exp(x_k) - 1 - x_k)).

    Args:
        apart: [B, K], student's logits less the teacher's. teacher_logits: [B, K].
        temperature: T > 0, a number, a tensor of one, or [B, 1].
        written_out: [B, 1], sum_k p_k log(p_k / q_k), which is taken where the two are far apart.
    """
    log_p = torch.log_softmax(teacher_logits / temperature, dim=-1)
    p, x = log_p.exp(), apart / temperature
    x = x - (p * x).sum(-1, keepdim=True)
    # where x is large p may be 0 in float32, and their product is not
    terms = torch.where(x.abs() < 0.5, p * _exp_beyond(x), (log_p + x).exp() - p - p * x)
    beyond = terms.sum(-1, keepdim=True)
    return torch.where(beyond < 1, torch.log1p(beyond), written_out)  # so is what is infinite or NaN


@torch.no_grad()
def relative_kl(p: Tensor, q: Tensor, eps: float) -> Tensor:
    """Return sum_k p_k log((p_k + eps) / (q_k + eps)) of rows that sum to 1, to a few roundings of itself, [B].

    With x = (q - p) / (p + eps) it is sum_k [p_k (x_k - log(1 + x_k)) + eps x_k].
    """
    x = (q - p) / (p + eps)
    below = torch.where(x.abs() < 0.25, _log_below(x), x - ((q + eps) / (p + eps)).log())
    return (p * below + eps * x).sum(-1)


@torch.no_grad()
def centred_softmax(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return softmax(logits / T) - 1 / K, [B, K], whose digits are not lost where all probabilities are alike."""
    x = torch.expm1((logits - logits.amax(-1, keepdim=True)) / temperature)
    return (x - x.mean(-1, keepdim=True)) / (x + 1).sum(-1, keepdim=True)


def _exp_beyond(x: Tensor) -> Tensor:
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
