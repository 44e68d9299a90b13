"""Metrics of predictions: pure functions over logits [N, K] and targets [N]. No torch, so that reports start fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

TOP5_FROM_CLASSES = 10  # classes; with more, top-5 accuracy is reported
BINS = 15  # of confidence: the usual number for ECE


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exponent = np.exp(shifted)
    return exponent / exponent.sum(-1, keepdims=True)


def accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the share of images whose predicted class is right."""
    return float((logits.argmax(-1) == targets).mean())


def balanced_accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean recall of the classes that have images: each class counts alike."""
    table = per_class(confusion(logits, targets))
    return float(table["recall"][table["support"] > 0].mean())


def macro_f1(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean F1 of all classes; a class without images counts as 0."""
    return float(per_class(confusion(logits, targets))["f1"].mean())


def top_accuracy(logits: np.ndarray, targets: np.ndarray, k: int = 5) -> float:
    """Return the share of images whose class is among the ``k`` likeliest. Among equal logits the lower class leads."""
    own, index = logits[np.arange(len(targets)), targets][:, None], np.arange(logits.shape[-1])
    not_above = (logits < own) | ((logits == own) & (index >= targets[:, None]))
    return float(((~not_above).sum(-1) < k).mean())  # every NaN counts as above, so it never helps


def nll(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the true class, in nats."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(-1))
    return float((log_sum - shifted[np.arange(len(targets)), targets]).mean())


class ConfidenceBins(NamedTuple):
    """Sums over the images in each bin of confidence, [bins] each. Bins have equal width, (low, high]."""

    images: np.ndarray
    confidence: np.ndarray
    right: np.ndarray


def confidence_bins(logits: np.ndarray, targets: np.ndarray, bins: int = BINS) -> ConfidenceBins:
    """Sort the images into bins by the confidence of their prediction, the largest softmax probability."""
    chance = probabilities(logits)
    confidence, right = chance.max(-1), chance.argmax(-1) == targets
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return ConfidenceBins(*(np.bincount(which, each, bins) for each in (None, confidence, right)))


def ece(logits: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599), top-label."""
    sums = confidence_bins(logits, targets, bins)
    return float(np.abs(sums.confidence - sums.right).sum() / len(targets))


def confusion(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return counts, int64 [K, K]: rows are true classes, columns predicted ones."""
    classes = logits.shape[-1]
    return np.bincount(targets * classes + logits.argmax(-1), minlength=classes**2).reshape(classes, classes)


def most_confused(counts: np.ndarray, most: int) -> list[tuple[int, int, int, int]]:
    """Return (true class, predicted class, images, images of the true class) of the pairs with the most images.

    Args:
        counts: int64 [K, K], rows are true classes. most: pairs; among equal ones the lower classes lead.
    """
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(t), int(p), int(wrong[t, p]), int(counts[t].sum())) for t, p in pairs if wrong[t, p]]


def per_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, recall, specificity, F1, MCC (one class against the rest) and support, [K] each; 0/0 is 0."""
    counts = counts.astype(np.float64)
    hit = np.diag(counts)
    missed, false = counts.sum(1) - hit, counts.sum(0) - hit
    rest = counts.sum() - hit - missed - false

    def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)

    return {
        "precision": ratio(hit, hit + false),
        "recall": ratio(hit, hit + missed),
        "specificity": ratio(rest, rest + false),
        "f1": ratio(2 * hit, 2 * hit + missed + false),
        "mcc": ratio(
            hit * rest - false * missed,
            np.sqrt((hit + false) * (hit + missed) * (rest + false) * (rest + missed)),
        ),
        "support": counts.sum(1).astype(int),
    }


def summary(logits: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return all scores of one network that ``result.json`` holds."""
    counts = confusion(logits, targets)
    table = per_class(counts)
    return {
        "accuracy": accuracy(logits, targets),
        "top5_accuracy": top_accuracy(logits, targets, 5) if len(classes) > TOP5_FROM_CLASSES else None,
        "balanced_accuracy": balanced_accuracy(logits, targets),
        "macro_f1": macro_f1(logits, targets),
        "nll": nll(logits, targets),
        "ece": ece(logits, targets),
        "per_class": {
            name: {measure: values[k].item() for measure, values in table.items()} for k, name in enumerate(classes)
        },
        "confusion": counts.tolist(),
    }


# the measures by which validation may pick an epoch (train.pick_by); higher is better
PICKS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}


def agreement(logits: np.ndarray, others: np.ndarray) -> float:
    """Return the share of images on which two networks predict the same class, right or not (Stanton et al. 2021)."""
    return float((logits.argmax(-1) == others.argmax(-1)).mean())


def mcnemar(logits: np.ndarray, others: np.ndarray, targets: np.ndarray) -> float:
    """Return McNemar's exact two-sided p for equal accuracy, from the images on which only one network is right."""
    right, other_right = logits.argmax(-1) == targets, others.argmax(-1) == targets
    only, only_other = int((right & ~other_right).sum()), int((~right & other_right).sum())
    total = only + only_other
    if total == 0:
        return 1.0
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    few = np.arange(min(only, only_other) + 1)
    log_terms = log_factorial[total] - log_factorial[few] - log_factorial[total - few] - total * np.log(2)
    return float(min(1.0, 2 * np.exp(log_terms).sum()))
