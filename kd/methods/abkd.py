"""ABKD: alpha-beta-divergence (Wang, Yang, Wang, Wang, Xu, Huang, ICML 2025), https://arxiv.org/abs/2505.04560.

Hinton's KL divergence looks where the teacher is sure, the reverse one where the student is. The alpha-beta-divergence
has both as corners and everything between: alpha weighs where the two disagree most, beta where the student is sure.
alpha = 1, beta = 0 is KL(teacher || student), alpha = 0, beta = 1 is KL(student || teacher), alpha = beta = 1 half the
squared distance of the probabilities. There is no T^2. Costs a few exponentials more than Hinton's term: negligible
beside the networks.

With p of the teacher and q of the student, a class counts
-[p^a q^b - a / (a + b) p^(a + b) - b / (a + b) q^(a + b)] / (a b); where a, b or a + b is 0 it is the limit of that.
The authors' code raises probabilities to powers, which has no gradient in float32 where one is 0; here the powers are
exponentials of log-probabilities. Their code for language models lacks a factor 1 / a where a + b = 0; here it is kept.
A beta below 0 (or an alpha below 0) grows without bound where the student (the teacher) has a probability near 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods import _precise


def alpha_beta_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
) -> Tensor:
    """Return the alpha-beta-divergence of the softmaxes at T, a scalar: summed over K, mean over B; no T^2.

    Args:
        student_logits, teacher_logits: [B, K].
        temperature, alpha, beta: T > 0, and any a and b; numbers or scalar tensors.
    """
    p = torch.log_softmax(teacher_logits / temperature, dim=-1)
    q = torch.log_softmax(student_logits / temperature, dim=-1)
    a, b = (x if isinstance(x, Tensor) else torch.full((), x, dtype=p.dtype, device=p.device) for x in (alpha, beta))
    plain = _written_out(p, q, a, b).sum(-1)
    value = _value(student_logits, teacher_logits, temperature, a, b, p, q)
    return _precise.with_value(value, plain).mean()


def _not_zero(x: Tensor) -> Tensor:
    """Return x, or 1 where it is 0: for a quotient that is not used there."""
    return torch.where(x == 0, torch.ones_like(x), x)


def _written_out(p: Tensor, q: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return what each class adds, [B, K], from log-probabilities; a tensor of numbers is not branched on."""
    safe_a, safe_b, both = _not_zero(a), _not_zero(b), _not_zero(a + b)
    teacher, student = (a + b) * p, (a + b) * q
    general = (a * teacher.exp() + b * student.exp()) / both - (a * p + b * q).exp()
    opposite = torch.where(a + b == 0, a, torch.zeros_like(a)) * (p - q)  # 0 elsewhere: it could overflow there
    without_sum = 1 + opposite - opposite.exp()
    general = torch.where(a + b == 0, without_sum, general) / (safe_a * safe_b)
    forward = (a * (a * p).exp() * (p - q) - (a * p).exp() + (a * q).exp()) / safe_a.square()  # b = 0
    reverse = (b * (b * q).exp() * (q - p) - (b * q).exp() + (b * p).exp()) / safe_b.square()  # a = 0
    neither = (q - p).square() / 2
    one = torch.where(b == 0, forward, torch.where(a == 0, reverse, general))
    return torch.where((a == 0) & (b == 0), neither, one)


@torch.no_grad()
def _value(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor,
    a: Tensor,
    b: Tensor,
    p: Tensor,
    q: Tensor,
) -> Tensor:
    """Return the divergence of each image, [B], precise also where student and teacher nearly agree.

    With x = log q - log p and e(y) = exp(y) - 1 - y it is p^(a + b) [b / (a + b) e((a + b) x) - e(b x)] / (a b): of
    second order in x, without a difference of larger numbers. Where x is large the sum is written out.
    """
    apart = student_logits - teacher_logits
    plain = (p.exp() * (p - q)).sum(-1, keepdim=True)
    x = apart / temperature
    x = x - (p.exp() * x).sum(-1, keepdim=True) - _precise.kl(apart, teacher_logits, temperature, plain)
    every, safe_a, safe_b = a + b, _not_zero(a), _not_zero(b)
    over_both = torch.where(every == 0, torch.zeros_like(b), b / _not_zero(every))
    general = (over_both * _precise.exp_beyond(every * x) - _precise.exp_beyond(b * x)) / (safe_a * safe_b)
    forward = _precise.exp_beyond(a * x) / safe_a.square()
    reverse = torch.exp(b * x) * _precise.exp_beyond(-b * x) / safe_b.square()
    one = torch.where(b == 0, forward, torch.where(a == 0, reverse, general))
    near = (every * p).exp() * torch.where((a == 0) & (b == 0), x.square() / 2, one)
    small = torch.maximum(torch.maximum(every.abs(), b.abs()), a.abs()) * x.abs() < 0.5
    return torch.where(small, near, _written_out(p, q, a, b)).sum(-1)


class ABKD(nn.Module):
    """The alpha-beta-divergence of the soft labels at one temperature.

    Args:
        temperature: T of both softmaxes.
        alpha: power of the teacher's probabilities: a larger one weighs the classes of the largest ratio more.
        beta: power of the student's: a larger one weighs the classes of which the student is sure more.
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 4.0, alpha: float | Tensor = 0.8, beta: float | Tensor = 0.3):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        for name, power in (("alpha", alpha), ("beta", beta)):
            if not isinstance(power, Tensor) and not abs(power) < float("inf"):
                raise ValueError(f"kd.{name} is a power of probabilities and must be finite, got {power}")
        self.temperature, self.alpha, self.beta = temperature, alpha, beta

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return alpha_beta_divergence(student.logits, teacher.logits, self.temperature, self.alpha, self.beta)
