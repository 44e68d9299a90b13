"""How hard each term pulls: the norm of its gradient on the student's own weights, and its angle to the labels'.

The gradients are taken on copies of network and objective, on the batch of the step that follows, and the random states
are put back. So a training that is measured ends with the bits of one that is not.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs, extract_outputs
from kd.runtime.rng import random_states, restore_random_states
from kd.train.objective import Objective, seen
from kd.train.step import TrainStep

LABELS = 0  # row of a table with the gradient of all label terms together; the terms follow


class Pull(NamedTuple):
    """The gradient of one term on the student's own weights, a mean over micro-batches."""

    norm: float  # of the gradient of the weighted or the unweighted term, as the function says
    cosine: float | None  # with the labels' gradient; None without labels, or where one of the two is zero


def own_weights(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a student that learn, without layers that a method added to it.

    A network that a method puts in the student's place names what it adds: ``added_layers``, names of its children.
    """
    added = {
        f"{path}.{name}." if path else f"{name}."
        for path, module in network.named_modules()
        for name in getattr(module, "added_layers", ())
    }
    return [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith(tuple(added))]


def table_of(step: TrainStep, batch: Batch, answer: Outputs | None, terms: Sequence[str]) -> Tensor:
    """Return norms and cosines of the gradients of unweighted terms on one micro-batch: [1 + terms, 2], float64.

    Row 0 is the labels' gradient, of all label terms with their full weights; without label terms it is NaN, as every
    cosine with it is. The step and the random generators are as before.

    Args:
        batch, answer: what the step would get. terms: any of the objective's, within their schedule or not.
    """
    device, before = step.device, random_states(step.device.device)
    memo = {id(buffer): buffer.clone() for buffer in step.buffers()}  # one slice, where a stack of students holds them
    network, objective = copy.deepcopy((step.network, step.objective), memo)
    try:
        with device.turns(), torch.enable_grad():
            with device.autocast():
                outputs = extract_outputs(network, batch.image, step.needs).to_float32(step.needs)
            labels = objective.label_terms
            names = dict.fromkeys([*labels, *terms])
            own = {name: objective.terms[name] for name in names}
            losses = {name: term(*seen(term, outputs, answer, batch)) for name, term in own.items()}
            whole = sum(objective.full_weight(name) * losses[name] for name in labels) if labels else None
            return _compare(whole, [losses[name] for name in terms], own_weights(network)).cpu().double()
    finally:
        restore_random_states(before, device.device)


def _compare(labels: Tensor | None, losses: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return norm and cosine with the labels' gradient for the labels and for each loss, [1 + losses, 2]."""
    nan = torch.full((), torch.nan, device=weights[0].device)
    base = _gradient(labels, weights) if labels is not None else None
    length = _norm(base) if base is not None else nan
    rows = [torch.stack([length, nan if base is None else length / length])]
    for loss in losses:
        own = _gradient(loss, weights)
        norm = _norm(own)
        product = sum((a * b).sum() for a, b in zip(own, base, strict=True)) if base is not None else nan
        rows.append(torch.stack([norm, (product / (norm * length)).clamp(-1, 1)]))
    return torch.stack(rows).detach()


def _gradient(loss: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of a loss on the weights; zeros where it does not depend on them."""
    if not loss.requires_grad:
        return [torch.zeros_like(p) for p in weights]
    return list(torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True))


def _norm(gradient: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(gradient)).float().norm()


def active_weights(objective: Objective, progress: float) -> dict[str, float]:
    """Return the terms that are active at this point of the training, with their weights."""
    return {
        name: float(objective.weight_at(name, progress)) for name in objective.terms if objective.counts(name, progress)
    }
