"""Weights at which the gradients of two terms mean the same, measured before the first step.

A published weight fits the maps, the network and the optimiser of its paper. Elsewhere its term may pull on the student
a hundred times as hard as the labels, which then are hardly learned: a warning names the weight that would balance it.
With ``kd.balance=auto`` the added terms take that weight by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch

from kd.config.weights import ASIDE, DROWNS, WeightSetting, usual_share
from kd.runtime.user_warnings import warn_user
from kd.train.gradients import Pull
from kd.train.objective import Objective


def shares_of(objective: Objective, share: float | None) -> dict[str, float]:
    """Return what ``Objective.balance_to`` takes: the share of each added term.

    Args:
        share: ``kd.balance_share``; None is the ``usual_share`` of each term.

    Raises:
        ValueError: there are added terms and no labels to balance them with.
    """
    if objective.added_terms and not objective.label_terms:
        raise ValueError(
            "kd.balance=auto weighs each added term against the labels, and this method learns none: give the labels a "
            f"weight above 0, or set kd.balance=null (its terms: {', '.join(objective.added_terms)})"
        )
    return {name: _usual_share(objective, name) if share is None else share for name in objective.added_terms}


def _usual_share(objective: Objective, name: str) -> float:
    return usual_share(objective.terms[name].needs)


def balanced_weight(share: float, labels: float, pull: Pull) -> float | None:
    """Return the weight at which a term's gradient has ``share`` times the norm of the labels'.

    Args:
        labels: norm of the gradient of the weighted label terms. pull: of the unweighted term.

    Returns:
        None if there is none, because one of the two gradients is zero or not finite.
    """
    weight = share * labels / pull.norm if pull.norm else math.inf
    return weight if 0 < weight < math.inf else None


def take_balanced_weights(objective: Objective, labels: float, pulls: Mapping[str, Pull]) -> dict[str, float]:
    """Set the weights of the terms in ``objective.balance``; return them. A term that pulls nowhere keeps its own.

    Args:
        labels, pulls: see ``balanced_weight``.
    """
    for number, (name, share) in enumerate(objective.balance.items()):
        weight = balanced_weight(share, labels, pulls[name])
        if weight is None:
            warn_user(
                f"kd.balance=auto: {name} has no gradient on the student at the start, so it keeps its weight "
                f"{float(objective.full_weight(name)):g}"
            )
        else:
            with torch.no_grad():
                objective.balanced[number] = weight
    return dict(zip(objective.balance, objective.balanced.tolist(), strict=True))


def warn_of_drowned_labels(objective: Objective, stage: str, labels: float, pulls: Mapping[str, Pull]) -> None:
    """Warn about each added term whose gradient is ``DROWNS`` times that of the labels or more, and points elsewhere.

    A term that is never active together with the labels cannot drown them.

    Args:
        stage: the role. labels, pulls: see ``balanced_weight``.
    """
    for name in filter(partial(_meets_labels, objective), objective.added_terms):
        weight = float(objective.full_weight(name))
        ratio = weight * pulls[name].norm / labels if labels else math.nan
        if not DROWNS <= ratio < math.inf or (pulls[name].cosine or 0.0) > ASIDE:
            continue
        share = _usual_share(objective, name)
        setting = objective.weight_settings.get(name, WeightSetting(f"kd.weights.{name}"))
        of_labels = sum(float(objective.full_weight(label)) for label in objective.label_terms)
        balanced = setting.value_for(weight * share / ratio / of_labels, of_labels)
        warn_user(
            f"{stage}: before the first step the gradient of {name} is {ratio:.3g} times that of the labels, which it "
            f"drowns: with {setting.key}={balanced:.2g} it would be {share:g} times, and kd.balance=auto chooses such "
            "weights by itself"
        )


def _meets_labels(objective: Objective, name: str) -> bool:
    """Whether a term is active together with a label term: if two windows overlap, they do where one of them starts."""
    starts = {0.0, *(part.get("start", 0.0) for part in objective.schedule.values())}
    labels = objective.label_terms
    return any(objective.counts(name, at) and any(objective.counts(each, at) for each in labels) for at in starts)
