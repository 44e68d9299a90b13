"""Choose the test images that the figures of a run show."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kd.diagnose.gain import images_won

SAMPLE = 10  # images of the prediction grids
DISAGREEMENTS = 10  # images of the grid on which student and teacher disagree
NOT_WON = 8  # images that the teacher has right, and baseline and student wrong
ATTENDED = 4  # images that the teacher gets right, and as many that it gets wrong, with attention maps


def choose_images(
    target: np.ndarray, logits_by_model: Mapping[str, np.ndarray], seed: int, attended: bool = False
) -> np.ndarray:
    """Return the rows of predictions.npz whose images a report needs: int64, sorted, unique.

    They are a sample for the prediction grids, images on which student and teacher disagree, and images that the
    student did not win, drawn by ``seed``.

    Args:
        target: [N]. logits_by_model: "student" and, if the run has them, "teacher" and "baseline" -> [N, K].
        attended: add those of ``choose_attended``.
    """
    sample, differ, _ = draw_sample(target, logits_by_model, seed)
    rows = [sample, differ, choose_not_won(target, logits_by_model, seed)]
    rows += [*([choose_attended(target, logits_by_model["teacher"], seed)] if attended else [])]
    return np.unique(np.concatenate(rows)).astype(np.int64)


def choose_attended(target: np.ndarray, logits: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows of predictions.npz that get attention maps, int64: up to 4 that are right, then up to 4 wrong.

    Args:
        target: [N]. logits: the teacher's, [N, K]. seed: of the draw; the rows of each kind are sorted.
    """
    random, right = np.random.default_rng([seed, 1]), logits.argmax(1) == target
    kinds = [np.sort(random.permutation(np.flatnonzero(kind))[:ATTENDED]) for kind in (right, ~right)]
    return np.concatenate(kinds).astype(np.int64)


def choose_not_won(target: np.ndarray, logits: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    """Return up to 8 rows of images that the teacher has right, and baseline and student wrong, int64, sorted.

    Without a teacher or a baseline there are none. Arguments as of ``choose_images``.
    """
    if not {"teacher", "baseline"} <= {*logits}:
        return np.zeros(0, np.int64)
    rows = images_won(target, logits)["not_won"]
    return np.sort(np.random.default_rng([seed, 2]).permutation(rows)[:NOT_WON]).astype(np.int64)


def draw_sample(target: np.ndarray, logits: Mapping[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the rows of the sample, rows on which student and teacher disagree, and how many such rows there are.

    Without a teacher there are no such rows.
    """
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(target))[:SAMPLE])
    teacher = logits.get("teacher", logits["student"])
    differ = np.flatnonzero(teacher.argmax(1) != logits["student"].argmax(1))
    return sample, np.sort(random.permutation(differ)[:DISAGREEMENTS]), len(differ)
