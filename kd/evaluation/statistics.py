"""Significance tests for runs and sweeps: pure functions over arrays of S seeds and the same N test images.

A sweep makes many claims, so p values are corrected by Holm's method. A gain compares a student with its baseline, same
seed and same images, so everything is paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_P = math.ulp(0.0)  # a p value is never 0


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % interval, and the two-sided p of "it is 0"."""

    mean: float
    low: float
    high: float
    p: float


def crossed_t(student_right: np.ndarray, baseline_right: np.ndarray) -> Interval:
    """Test the gain in accuracy of student over baseline with seeds and test images as crossed random effects; S >= 2.

    The difference of seed s on image n is mu + seed_s + image_n + rest. Its mean has the variance of the row means
    over S plus that of the column means over N (the rest is counted in both: a little too much). A t distribution with
    Welch and Satterthwaite's degrees of freedom accounts for the small S: near S - 1 if seeds differ more than images,
    near N - 1 if they do not.

    Measured under a simulated null (4,000 draws; 85 % accurate; images differ in difficulty, for both networks
    and for each): p < 0.05 in this many of a hundred, by the standard deviation of the gain from seed to seed.

    =====================  =======  =======  ========
    seeds deviate by       nothing  1 point  2 points
    =====================  =======  =======  ========
    3 seeds, 1,200 images  1.5      4.0      6.4
    5 seeds, 1,200 images  1.6      2.5      4.2
    3 seeds, 3,000 images  1.4      5.0      7.6
    5 seeds, 3,000 images  1.6      4.3      5.2
    =====================  =======  =======  ========

    After Holm's correction, any false claim among 12 settings with one baseline (1,500 sweeps, 1,200 images): 4.1 at
    1 point with 3 seeds, 2.3 with 5; at 1.6 points 9.3 and 4.5, because p values near 0 are too small with three seeds.
    Two seeds are too few: 4.5 at 1 point and 9.4 at 2 before any correction.

    The alternatives: ``paired_bootstrap`` makes fewer false claims below 2 points and more there (3 seeds 8.4, 5 seeds
    5.6). A t test over the seeds alone ignores the images (8.5 with 3 seeds that do not differ, 18 with 10). A variance
    pooled over all settings has no more power with 3 seeds, because all gains share the baseline.

    Raises:
        ValueError: shapes differ, or there is one seed.
    """
    gain = _gain(student_right, baseline_right)
    seeds, images = gain.shape
    if seeds < 2:
        raise ValueError(
            "crossed_t needs two seeds or more; for one seed use paired_bootstrap, which covers its images alone"
        )
    mean = float(gain.mean())
    of_seeds = float(gain.mean(1).var(ddof=1)) / seeds
    of_images = float(gain.mean(0).var(ddof=1)) / images
    variance = of_seeds + of_images
    if variance == 0:
        return Interval(mean, mean, mean, 1.0 if mean == 0 else MIN_P)
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1))
    half = t_quantile(0.05, freedom) * math.sqrt(variance)
    p = max(t_two_sided(abs(mean) / math.sqrt(variance), freedom), MIN_P)
    return Interval(mean, mean - half, mean + half, p)


def paired_bootstrap(
    student_right: np.ndarray, baseline_right: np.ndarray, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Test the gain in accuracy of student over baseline by the percentile bootstrap over test images and seeds.

    Every draw takes N images, the same for all seeds, and S seeds, with replacement. With one seed it draws images
    alone, and the result holds for that seed's two networks, not for the method. Measured as for ``crossed_t``: with
    one seed 4.2 false claims in a hundred if seeds do not differ, 15 if they do by 1 point, 36 by 2; with 3 seeds 0.7,
    3.2 and 8.4; with 5 seeds 0.8, 2.0 and 5.6. Drawing 3 seeds from 3 shows two thirds of their variance. Counting the
    rest of the noise too often makes up for that, up to a point.

    p = 2 min(1 + #(draws <= 0), 1 + #(draws >= 0)) / (1 + draws), at most 1 and never 0: one minus the level of the
    interval that has 0 on its edge.

    Args:
        student_right, baseline_right: bool [S, N].
        seed: of the random draws; the same seed gives the same interval.
    """
    gain = _gain(student_right, baseline_right)
    seeds, images = gain.shape
    random = np.random.default_rng(seed)
    # images with the same differences for all seeds form one pattern: a draw is a count of each pattern
    patterns, counts = np.unique(gain.astype(np.int8), axis=1, return_counts=True)
    taken = random.multinomial(images, counts / images, draws) / images  # [draws, P]
    by_seed = taken @ patterns.T  # [draws, S]
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    drawn = (by_seed * weights).sum(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    tiny = 1e-12  # rounding: 3/N - 2/N - 1/N is not exactly 0
    beyond = min((drawn <= tiny).sum(), (drawn >= -tiny).sum())
    return Interval(float(gain.mean()), float(low), float(high), min(1.0, 2 * (1 + int(beyond)) / (1 + draws)))


def _gain(student_right: np.ndarray, baseline_right: np.ndarray) -> np.ndarray:
    student, baseline = np.asarray(student_right, dtype=bool), np.asarray(baseline_right, dtype=bool)
    if student.ndim != 2 or student.shape != baseline.shape or student.shape[0] < 1 or student.shape[1] < 2:
        raise ValueError(
            "student_right and baseline_right must both be bool [S, N] with at least one seed and two images, "
            f"got {list(student.shape)} and {list(baseline.shape)}"
        )
    return student.astype(float) - baseline


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p values adjusted so that the chance of any false claim stays below the level (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (p.size - np.arange(p.size))))
    return adjusted


def pareto_front(cost: Sequence[float], merit: Sequence[float]) -> np.ndarray:
    """Return bool [n]: the points that no other point beats, being as cheap and as good, and better in one.

    Points that are equal in both do not beat each other. A point with a NaN is never on the front and beats none.
    """
    cost, merit = np.asarray(cost, dtype=float), np.asarray(merit, dtype=float)
    at_least = (cost[:, None] <= cost) & (merit[:, None] >= merit)  # [i, j]: i is as cheap and as good as j
    beats = at_least & ((cost[:, None] < cost) | (merit[:, None] > merit))
    return ~beats.any(0) & np.isfinite(cost) & np.isfinite(merit)


def t_two_sided(t: float, freedom: float) -> float:
    """Return the probability that Student's t is at least as far from 0 as ``t`` >= 0. scipy is no dependency."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def t_quantile(two_sided: float, freedom: float) -> float:
    """Return the t whose ``t_two_sided`` is ``two_sided``, by bisection."""
    low, high = 0.0, 1.0
    while t_two_sided(high, freedom) > two_sided:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided(middle, freedom) > two_sided else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22, Lentz)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast for small x only
        return 1 - _incomplete_beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return math.exp(log_front) * value / a
