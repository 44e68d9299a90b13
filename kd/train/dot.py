"""DOT, the Distillation-Oriented Trainer (Zhao, Cui, Song, Liang, ICCV 2023), https://arxiv.org/abs/2307.08436.

SGD with two velocities for each parameter: one of the labels' gradient, with momentum m - D, and one of the gradient of
all other terms, with momentum m + D. So what the student learns from its teacher leads the way, and the labels follow:

    v_labels <- (m - D) v_labels + (1 - damp) (g_labels + weight_decay p)
    v_rest   <- (m + D) v_rest   + (1 - damp) g_rest
    p        <- p - lr v_labels - lr v_rest

In its first step a velocity is its gradient. A parameter that has one of the two gradients alone, such as an adapter,
moves with momentum m; then weight decay is part of that velocity, though not in its first step if it is that of the
rest, as in the authors' code (https://github.com/megvii-research/mdistiller). With D = 0 it is SGD with momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

LABELS, REST = "labels", "rest"  # the velocities, in the state of a parameter


class DOT(torch.optim.Optimizer):
    """The optimizer. Before a step ``p.grad`` is the labels' gradient, and ``rest[p]`` that of all other terms.

    Args:
        params: parameters or groups, as of torch's optimizers. lr: the rate.
        momentum, delta: m and D, with 0 <= D <= m and m + D < 1. dampening: 0 or more, below 1.

    Raises:
        ValueError: a number out of its range.
    """

    takes_parts = True  # see kd.train.apart

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        delta: float = 0.075,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
    ):
        if not 0 <= delta <= momentum or not momentum + delta < 1:
            raise ValueError(
                f"optimizer=dot has momenta of momentum - delta and momentum + delta, which must lie in [0, 1): got "
                f"momentum={momentum} and delta={delta}"
            )
        if not 0 <= dampening < 1:
            raise ValueError(f"dampening must lie in [0, 1), got {dampening}")
        settings = {"lr": lr, "momentum": momentum, "delta": delta}
        super().__init__(params, {**settings, "weight_decay": weight_decay, "dampening": dampening})
        self.rest: dict[nn.Parameter, Tensor] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget both gradients."""
        super().zero_grad(set_to_none)
        self.rest = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step with the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            labels = {p: p.grad for p in group["params"] if p.grad is not None}
            rest = {p: self.rest[p] for p in group["params"] if p in self.rest}
            m, delta, decay = group["momentum"], group["delta"], group["weight_decay"]
            both, own, others = (
                [p for p in labels if p in rest],
                [p for p in labels if p not in rest],
                [p for p in rest if p not in labels],
            )
            for parameters, gradients, name, momentum, decays, first_decays in (
                (both, labels, LABELS, m - delta, decay, decay),
                (own, labels, LABELS, m, decay, decay),
                (both, rest, REST, m + delta, 0.0, 0.0),
                (others, rest, REST, m, decay, 0.0),
            ):
                begun = [p for p in parameters if name in self.state[p]]
                new = [p for p in parameters if name not in self.state[p]]
                self._begin(new, _decayed(new, gradients, first_decays), name)
                if begun:
                    velocities = [self.state[p][name] for p in begun]
                    torch._foreach_mul_(velocities, momentum)
                    torch._foreach_add_(velocities, _decayed(begun, gradients, decays), alpha=1 - group["dampening"])
            for moved, name in (([*both, *own], LABELS), ([*both, *others], REST)):
                if moved:
                    torch._foreach_add_(moved, [self.state[p][name] for p in moved], alpha=-group["lr"])
        return loss

    def _begin(self, parameters: list[nn.Parameter], gradients: list[Tensor], name: str) -> None:
        for p, gradient in zip(parameters, gradients, strict=True):
            self.state[p][name] = gradient.clone()


def _decayed(parameters: list[nn.Parameter], gradients: dict[nn.Parameter, Tensor], decay: float) -> list[Tensor]:
    """Return the gradients of some parameters, with weight decay."""
    found = [gradients[p] for p in parameters]
    return torch._foreach_add(found, parameters, alpha=decay) if decay and found else found
