"""What the answers of a teacher hold beyond the class that it puts first: pure functions over logits [N, K]."""

from __future__ import annotations

import math

import numpy as np

from kd.evaluation.metrics import probabilities

HOTTEST = 20.0  # the highest temperature that methods publish


def entropy_share(logits: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean entropy of the answers at a temperature, as a share of log K: 0 is one class, 1 is all alike."""
    return float(_entropy(probabilities(logits / temperature)).mean() / math.log(logits.shape[-1]))


def mass_beside_first(logits: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean probability, at a temperature, of all classes beside the first one."""
    return float(1 - probabilities(logits / temperature).max(-1).mean())


def rest_entropy_share(logits: np.ndarray, temperature: float = 1.0) -> float | None:
    """Return the mean entropy among the classes beside the first one, as a share of log(K - 1).

    0: a single class comes second. 1: the rest are all alike, and say nothing about which classes are similar. None
    with two classes, of which one is left.
    """
    classes = logits.shape[-1]
    if classes < 3:
        return None
    rest = np.sort(logits, -1)[:, :-1]
    return float(_entropy(probabilities(rest / temperature)).mean() / math.log(classes - 1))


def confidence(logits: np.ndarray) -> float:
    """Return the mean probability of the first class, at temperature 1."""
    return float(probabilities(logits).max(-1).mean())


def temperature_for(logits: np.ndarray, mass: float) -> float:
    """Return the temperature, at most ``HOTTEST``, at which the classes beside the first have this probability.

    Rounded up to a half, as people type it; found by bisection, since the mass rises with the temperature.
    """
    low, high = 0.0, HOTTEST
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if mass_beside_first(logits, middle) < mass else (low, middle)
    return math.ceil(2 * high - 1e-3) / 2


def _entropy(chance: np.ndarray) -> np.ndarray:
    """Return the entropy of each row in nats; 0 log 0 is 0."""
    logs = np.log(chance, out=np.zeros_like(chance), where=chance > 0)
    return -(chance * logs).sum(-1)
