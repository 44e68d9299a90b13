"""Eight test images for the page, with the answers that the run recorded: the same eight at every export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kd.data.dataset import ImageDataset
from kd.records.run_folder import ROLE_LABELS

COUNT = 8
GAINED, WRONG, RIGHT = "gained", "wrong", "right"  # gained: the student is right where the baseline is wrong
WANTED = (GAINED, RIGHT, WRONG, RIGHT, GAINED, RIGHT, WRONG, RIGHT)  # in this order, where there are so many


class Examples(NamedTuple):
    """Test images and the logits that a run recorded for them."""

    images: np.ndarray  # uint8 [M, S, S, C], as stored; C 1 or 3
    targets: np.ndarray  # int64 [M]
    logits: Mapping[str, np.ndarray]  # role -> float32 [M, K]


def pick_examples(dataset: ImageDataset, predictions: Mapping[str, np.ndarray], key: str) -> Examples:
    """Return up to 8 test images of a run: the student right or wrong, with and without the baseline, all classes.

    Args:
        predictions: the arrays of ``predictions.npz``: "index" and "target" [N], and the logits [N, K] by role.
        key: of the run, which determines the draw.
    """
    rows = choose_rows(predictions["target"], predictions["student"], predictions.get("baseline"), key)
    logits = {role: predictions[role][rows] for role in ROLE_LABELS if role in predictions}
    return Examples(dataset.images[predictions["index"][rows]], predictions["target"][rows], logits)


def choose_rows(target: np.ndarray, student: np.ndarray, baseline: np.ndarray | None, key: str) -> np.ndarray:
    """Return the rows of the examples, int64 [M], ordered by class.

    Each place takes an image of the wanted kind and, of these, of the class that was taken least. Where no image is of
    the wanted kind, any one is taken.

    Args:
        target: [N]. student, baseline: logits [N, K]; the run may have no baseline.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    order = np.random.default_rng(seed).permutation(len(target))
    kinds = _kinds(target, student, baseline)
    taken: list[int] = []
    for kind in WANTED[: len(target)]:
        free = [row for row in order if row not in taken]
        fits = [row for row in free if kinds[row] == kind] or free
        counts = [sum(target[other] == target[row] for other in taken) for row in fits]
        taken.append(fits[int(np.argmin(counts))])
    return np.array(sorted(taken, key=lambda row: (target[row], row)), dtype=np.int64)


def _kinds(target: np.ndarray, student: np.ndarray, baseline: np.ndarray | None) -> np.ndarray:
    kinds = np.where(student.argmax(1) == target, RIGHT, WRONG).astype("<U6")
    if baseline is not None:
        kinds[(kinds == RIGHT) & (baseline.argmax(1) != target)] = GAINED
    return kinds
