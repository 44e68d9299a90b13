"""What could be gained and was, and how many seeds or test images would show it."""

from __future__ import annotations

import numpy as np
import pytest

from kd.diagnose import gain
from kd.evaluation.statistics import crossed_t


def test_images_are_counted_by_who_is_right():
    right = {  # T: right. One column an image
        "teacher": "TTTT....TT",
        "student": "TT..T...T.",
        "baseline": "....TT..TT",
    }
    target = np.zeros(10, int)
    logits = {role: np.array([[1.0, 0.0] if each == "T" else [0.0, 1.0] for each in of]) for role, of in right.items()}
    assert gain.gains_and_losses(target, logits) == {
        **{"can_gain": 4, "gained": 2, "other_gains": 0, "can_lose": 4, "lost": 2, "lost_with_teacher": 1},
    }
    assert gain.images_won(target, logits) == {"won": [0, 1], "not_won": [2, 3]}


def _drawn(points: float, differ: float, images: int, seeds: int, random: np.random.Generator) -> float:
    """Return the p of a sweep whose gains have the variances that ``seeds_to_tell`` assumes."""
    mean = points + random.normal(0, gain.SEED_DEVIATION, seeds)[:, None]
    draws = random.random((seeds, images))
    same = random.random(images) < gain.SAME_IMAGES  # on these images all seeds agree: that is their correlation
    draws[:, same] = draws[0, same]
    up, down = draws < (differ + mean) / 2, draws > 1 - (differ - mean) / 2
    return crossed_t(up, down).p


@pytest.mark.parametrize(("points", "differ", "images"), [(0.03, 0.12, 1200), (0.012, 0.08, 5000)])
def test_so_many_seeds_find_the_gain_four_times_in_five(points, differ, images):
    random, seeds = np.random.default_rng(0), gain.seeds_to_tell(points, differ, images)
    assert 3 <= seeds <= 12
    found = np.mean([_drawn(points, differ, images, seeds, random) < 0.05 for _ in range(200)])
    assert 0.7 < found < 0.97
    assert gain.seeds_to_tell(-points, differ, images) == seeds, "a loss is as hard to see"


def test_a_smaller_gain_needs_more_seeds_and_then_more_images():
    needed = [gain.seeds_to_tell(points, 0.1, 1200) for points in (0.05, 0.025, 0.02)]
    assert needed == sorted(needed) and needed[0] < needed[-1]
    assert gain.seeds_to_tell(0.002, 0.1, 1200) is None and gain.images_to_tell(0.002, 0.1) is None
    assert gain.seeds_to_tell(0.012, 0.1, 1200) is None
    images = gain.images_to_tell(0.012, 0.1)
    assert gain.seeds_to_tell(0.012, 0.1, images) <= gain.FEW < gain.seeds_to_tell(0.012, 0.1, images // 2)


def test_no_gain_at_all_needs_no_finite_number():
    assert gain.seeds_to_tell(0.0, 0.1, 1000) is gain.images_to_tell(0.0, 0.1) is None
    assert gain.seeds_to_tell(0.0, 0.0, 60) is None
