"""What a student could gain from its teacher, what it gained, and how many seeds would show that."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kd.evaluation.statistics import t_quantile

# What a run alone cannot know of its gain. The standard deviation from seed to seed, less what the test images explain,
# is under 0.2 points in experiments/methods.md and about 1 point in experiments/scenes.md.
SEED_DEVIATION = 0.005
# Of the variance of the gain from image to image, the part that stays when the seed changes: the correlation over the
# test images of the gains of two seeds was 0.13 on scenes and 0.12 on Intel.
SAME_IMAGES = 0.13
MOST_SEEDS = 20  # nobody trains more to find a gain
FEW = 5  # seeds that people usually afford


def gains_and_losses(target: np.ndarray, logits: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count the images on which a teacher can help or harm.

    Args:
        target: [N]. logits: [N, K] by role: "teacher", "student" and "baseline".

    Returns:
        "can_gain": teacher right and baseline wrong, "gained": of these, the student is right; "other_gains": student
        right, teacher and baseline wrong; "can_lose": baseline right, "lost": of these, the student is wrong,
        "lost_with_teacher": of the lost, the teacher is wrong too.
    """
    teacher, student, baseline = (logits[role].argmax(-1) == target for role in ("teacher", "student", "baseline"))
    counted = {
        "can_gain": teacher & ~baseline,
        "gained": teacher & ~baseline & student,
        "other_gains": ~teacher & ~baseline & student,
        "can_lose": baseline,
        "lost": baseline & ~student,
        "lost_with_teacher": baseline & ~student & ~teacher,
    }
    return {name: int(which.sum()) for name, which in counted.items()}


def images_won(target: np.ndarray, logits: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """Return the images that the teacher has right and the baseline wrong, as rows of ``target``.

    Args:
        target, logits: as of ``gains_and_losses``.

    Returns:
        "won": the student is right. "not_won": it is wrong.
    """
    teacher, student, baseline = (logits[role].argmax(-1) == target for role in ("teacher", "student", "baseline"))
    offered = teacher & ~baseline
    parts = {"won": offered & student, "not_won": offered & ~student}
    return {name: np.flatnonzero(which).tolist() for name, which in parts.items()}


def seeds_to_tell(gain: float, differ: float, images: int) -> int | None:
    """Return how many seeds show a gain of this size at p < 0.05 in four of five sweeps; None if ``MOST_SEEDS`` do not.

    The test is ``kd.evaluation.statistics.crossed_t``, with the variances that it would see: those of ``gain`` from
    image to image as measured in one run, and ``SEED_DEVIATION`` and ``SAME_IMAGES`` for what one run does not show.

    Args:
        gain: in accuracy. differ: share of the test images on which one of the two networks alone is right.
        images: of the test split.
    """
    for seeds in range(3, MOST_SEEDS + 1):  # two are too few: docs/statistics.md
        if abs(gain) >= least_gain(differ - gain**2, images, seeds):
            return seeds
    return None


def images_to_tell(gain: float, differ: float, seeds: int = FEW) -> int | None:
    """Return how many test images show a gain of this size with so many seeds; None if no number of images does."""
    variance = differ - gain**2
    if abs(gain) < least_gain(variance, 10**9, seeds):
        return None
    low, high = 1, 10**9
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if abs(gain) >= least_gain(variance, middle, seeds) else (middle, high)
    return high


def least_gain(variance: float, images: int, seeds: int) -> float:
    """Return the smallest gain that ``crossed_t`` finds in four of five sweeps.

    Args:
        variance: of the gain from image to image, of one seed. images, seeds: two or more.
    """
    of_seeds = (SEED_DEVIATION**2 + (1 - SAME_IMAGES) * variance / images) / seeds
    of_images = variance * (SAME_IMAGES + (1 - SAME_IMAGES) / seeds) / images
    total = of_seeds + of_images
    freedom = total**2 / (of_seeds**2 / (seeds - 1) + of_images**2 / max(images - 1, 1))
    found = t_quantile(0.05, freedom) + t_quantile(0.4, freedom)  # 0.4 on two sides: a fifth on one
    return found * math.sqrt(total)
