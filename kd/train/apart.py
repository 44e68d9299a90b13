"""Backward passes: of the whole loss at once, or of the labels' terms and of all other terms apart.

Two may ask for gradients that are kept apart until the optimizer's step. An optimizer with ``takes_parts`` finds the
labels' gradient in ``p.grad`` and that of the rest in ``optimizer.rest[p]`` (``kd.train.dot``). A term with ``aligns``
has a method ``align(labels, rest)``, which gets both gradients by parameter and returns those of the rest that are used
(``kd.methods.dhkd``). Either way one forward pass is followed by two backward passes.

Both gradients are those of the whole batch: summed over micro-batches, averaged over processes. They are clipped by the
norm of their sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.runtime.distributed import World
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.step import TrainStep

Gradients = dict[nn.Parameter, Tensor]


def keeps_apart(recipe: Recipe, objective: Objective) -> bool:
    """Whether a training has two gradients: something asks for them, and there are terms of both kinds."""
    is_asked = recipe.takes_parts or bool(objective.aligning)
    return is_asked and 0 < len(objective.label_terms) < len(objective.terms)


def check_apart(recipe: Recipe, objective: Objective, compile: bool, method: str) -> None:
    """Refuse a student for whom the gradients that its optimizer or its method asks for cannot be had.

    Raises:
        ValueError: names the setting, and what would be right.
    """
    if not (recipe.takes_parts or objective.aligning):
        return
    asks = f"train.student.optimizer={recipe.optimizer}" if recipe.takes_parts else f"kd={method}"
    what = f"{asks} keeps the gradients of the labels' terms and of all others apart, and"
    if not objective.label_terms:
        raise ValueError(
            f"{what} kd={method} has no term that learns labels: give them a weight above 0, see kd.weights"
        )
    if len(objective.label_terms) == len(objective.terms):
        raise ValueError(
            f"{what} kd={method} learns from labels alone: train.student.optimizer=momentum is the same there"
        )
    if compile:
        raise ValueError(f"{what} a compiled step has one gradient: set train.compile=false")


class Backward:
    """The gradient of the whole loss, as autograd adds it."""

    def __init__(self, step: TrainStep):
        self.step = step

    def add(self, loss: Tensor, share: Tensor, number: int, last: bool) -> None:
        """Add the gradient of a micro-batch, weighted by its share of the batch.

        Args:
            loss: what the step returns. number: of the micro-batch in its batch, from 0. last: there is no other.
        """
        loss.backward(share)

    def clip(self, most: float) -> None:
        """Scale the gradient of a batch down to a norm."""
        nn.utils.clip_grad_norm_(self.step.parameters(), most)


class BackwardApart(Backward):
    """Two gradients; the last micro-batch of a batch hands them to the optimizer."""

    def __init__(self, step: TrainStep, optimizer: torch.optim.Optimizer, world: World):
        super().__init__(step)
        self.optimizer, self.world = optimizer, world
        self.takes_parts = getattr(optimizer, "takes_parts", False)
        self.parameters = list(step.parameters())
        self.labels: Gradients = {}
        self.rest: Gradients = {}

    def add(self, loss: tuple[Tensor, Tensor], share: Tensor, number: int, last: bool) -> None:
        if number == 0:
            self.labels, self.rest = {}, {}
        learned = [p for p in self.parameters if p.requires_grad]
        labels, rest = loss
        for part, sums, keep in ((labels, self.labels, rest.requires_grad), (rest, self.rest, False)):
            if part.requires_grad:  # not before a term's schedule begins
                found = torch.autograd.grad(part, learned, share, retain_graph=keep, allow_unused=True)
                accumulate(sums, dict(zip(learned, found, strict=True)))
        if last:
            self.world.average([*self.labels.values(), *self.rest.values()])
            for term in self.step.objective.aligning:
                self.rest = term.align(self.labels, self.rest)
            self._hand_over()

    def _hand_over(self) -> None:
        if self.takes_parts:
            self.optimizer.rest = self.rest
            given = self.labels
        else:
            given = total(self.labels, self.rest)
            self.labels, self.rest = {}, {}  # not needed any more
        for p in self.parameters:
            p.grad = given.get(p)

    def clip(self, most: float) -> None:
        if not self.takes_parts:
            super().clip(most)
            return
        whole = total(self.labels, self.rest)
        norm = nn.utils.get_total_norm(whole.values())
        scale = (most / (norm + 1e-6)).clamp(max=1.0)  # as torch clips
        torch._foreach_mul_([*self.labels.values(), *self.rest.values()], scale)


def accumulate(sums: Gradients, found: dict[nn.Parameter, Tensor | None]) -> None:
    """Add gradients to sums, which own their memory and have it in the order of their parameters."""
    given = {p: gradient for p, gradient in found.items() if gradient is not None}
    old = [p for p in given if p in sums]
    if old:
        torch._foreach_add_([sums[p] for p in old], [given[p] for p in old])
    new = [p for p in given if p not in sums]
    if new:
        sums |= {p: torch.empty_like(p) for p in new}
        torch._foreach_copy_([sums[p] for p in new], [given[p] for p in new])


def total(labels: Gradients, rest: Gradients) -> Gradients:
    """Return the sum of both gradients, of each parameter that has one."""
    both = [p for p in labels if p in rest]
    added = torch._foreach_add([labels[p] for p in both], [rest[p] for p in both]) if both else []
    return {**labels, **rest, **dict(zip(both, added, strict=True))}
