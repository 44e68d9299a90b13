"""Significance tests: agreement with oracles, and how often they claim a gain where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kd.evaluation.metrics import mcnemar
from kd.evaluation.statistics import crossed_t, holm, paired_bootstrap, pareto_front, t_quantile, t_two_sided


def draw(random: np.random.Generator, seeds: int, images: int = 1200, seed_sd: float = 0.01, gain: float = 0.0):
    """Return where student and baseline are right, bool [S, N] each, at 85 % accuracy.

    Images differ in difficulty, for both networks and for each. ``seed_sd``: standard deviation of the gain from seed
    to seed. ``gain``: the true gain.
    """
    accuracy, spread = 0.85, np.sqrt(1.2**2 + 0.35**2 + 0.6**2)
    level = stats.norm.ppf(accuracy) * spread
    slope = stats.norm.pdf(level / spread) / spread  # of accuracy over level
    hard = random.normal(0, 1.2, (1, images))

    def right(more: float) -> np.ndarray:
        own = random.normal(0, 0.35, (1, images)) + random.normal(0, 0.6, (seeds, images))
        return level + more / slope + random.normal(0, seed_sd / np.sqrt(2) / slope, (seeds, 1)) + hard + own > 0

    return right(gain), right(0.0)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 5.5, 30, 2999])
def test_students_t_is_scipys(freedom):
    for t in (0, 1e-3, 0.5, 1, 2, 4.3, 20, 100):
        assert t_two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-8, abs=1e-300)
    assert t_quantile(0.05, freedom) == pytest.approx(stats.t.isf(0.025, freedom), rel=1e-9)


def test_where_seeds_agree_the_images_are_the_sample_and_where_images_agree_the_seeds():
    random = np.random.default_rng(0)
    student, baseline = random.random((1, 300)) < 0.8, random.random((1, 300)) < 0.75
    same = crossed_t(np.repeat(student, 4, 0), np.repeat(baseline, 4, 0))
    oracle = stats.ttest_1samp(student[0].astype(float) - baseline[0], 0)
    low, high = oracle.confidence_interval(0.95)
    assert (same.low, same.high, same.p) == pytest.approx((low, high, oracle.pvalue))

    by_seed = np.array([1, 0, 1, 1, 1])  # a seed gains on every image, or on none
    found = crossed_t(np.repeat(by_seed[:, None], 300, 1), np.zeros((5, 300)))
    oracle = stats.ttest_1samp(by_seed, 0)
    assert (found.mean, found.p) == pytest.approx((0.8, oracle.pvalue))


def test_interval_and_p_of_the_crossed_test_agree_and_know_their_sign():
    random = np.random.default_rng(1)
    claims = 0
    for _ in range(60):
        student, baseline = draw(random, 3, gain=0.025)
        found, turned = crossed_t(student, baseline), crossed_t(baseline, student)
        assert found.mean == pytest.approx(student.mean() - baseline.mean())
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        assert (turned.mean, turned.low, turned.p) == pytest.approx((-found.mean, -found.high, found.p))
        claims += found.p < 0.05
    assert 5 < claims < 55


def test_false_claims_stay_below_seven_percent_where_seeds_differ():
    random = np.random.default_rng(2)
    pairs = [draw(random, 3) for _ in range(600)]
    crossed = np.mean([crossed_t(*pair).p < 0.05 for pair in pairs])
    bootstrap = np.mean([paired_bootstrap(*pair, draws=299).p < 0.05 for pair in pairs[:250]])
    assert 0.015 < crossed < 0.07
    assert bootstrap < 0.08
    # a test that ignores the seeds claims too much: here that of every first seed alone
    alone = np.mean([paired_bootstrap(s[:1], t[:1], draws=299).p < 0.05 for s, t in pairs[:400]])
    assert alone > 0.1


def test_with_one_seed_the_bootstrap_draws_images_alone_and_agrees_with_mcnemar():
    random = np.random.default_rng(3)
    for gain in (0.0, 0.01, 0.03):
        student, baseline = draw(random, 1, seed_sd=0, gain=gain)
        found = paired_bootstrap(student, baseline)
        wide = 1.96 * (student[0].astype(float) - baseline[0]).std() / np.sqrt(1200)
        assert (found.low, found.high) == pytest.approx((found.mean - wide, found.mean + wide), abs=0.0015)
        logits = [np.stack([right, ~right], 1).astype(float) for right in (student[0], baseline[0])]  # class 0 is right
        assert found.p == pytest.approx(mcnemar(*logits, np.zeros(1200, int)), abs=0.05)


def test_the_bootstrap_is_the_one_that_draws_images_and_seeds_one_by_one():
    random = np.random.default_rng(4)
    student, baseline = draw(random, 4, images=150, gain=0.04)
    gain = student.astype(float) - baseline
    slow = [
        gain[random.integers(0, 4, 4)][:, random.integers(0, 150, 150)].mean()  # the same images for all seeds
        for _ in range(6000)
    ]
    found = paired_bootstrap(student, baseline)
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.006)
    assert found == paired_bootstrap(student, baseline) != paired_bootstrap(student, baseline, seed=1)


def test_p_is_never_0_and_1_where_nothing_differs():
    right = np.ones((3, 50), bool)
    for test in (crossed_t, paired_bootstrap):
        none = test(right, right)
        assert (none.mean, none.low, none.high, none.p) == (0, 0, 0, 1)
        assert 0 < test(right, ~right).p < 0.001
    nearly = np.ones((40, 3000), bool)
    nearly[:, 0] = nearly[0, 1] = False
    assert 0 < crossed_t(nearly, ~np.ones_like(nearly)).p < 1e-100
    assert paired_bootstrap(right, ~right, draws=99).p == pytest.approx(2 / 100)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 9\] and \[2, 8\]"):
        crossed_t(np.ones((2, 9)), np.ones((2, 8)))
    with pytest.raises(ValueError, match="paired_bootstrap"):
        crossed_t(np.ones((1, 9)), np.ones((1, 9)))
    with pytest.raises(ValueError, match=r"bool \[S, N\]"):
        paired_bootstrap(np.ones(9), np.ones(9))


def test_holm():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])  # x3, x2 of .03, x2, x4
    np.testing.assert_allclose(holm([0.6, 0.5, 0.02]), [1, 1, 0.06])
    assert holm([]).size == 0
    p = np.random.default_rng(5).random(30) ** 3
    assert (holm(p) >= p).all() and (np.argsort(holm(p)[np.argsort(p)], kind="stable") == np.arange(30)).all()


def test_the_front_is_what_no_point_beats():
    random = np.random.default_rng(6)
    cost, merit = random.integers(0, 8, 60).astype(float), random.integers(0, 8, 60).astype(float)
    cost[3] = merit[4] = np.nan

    def beaten(i: int) -> bool:
        others = [j for j in range(60) if cost[j] <= cost[i] and merit[j] >= merit[i]]
        return any((cost[j], merit[j]) != (cost[i], merit[i]) for j in others)

    expected = [not (np.isnan(cost[i]) or np.isnan(merit[i]) or beaten(i)) for i in range(60)]
    np.testing.assert_array_equal(pareto_front(cost, merit), expected)
    assert pareto_front([1, 1, 2, 1], [5, 5, 5, 4]).tolist() == [True, True, False, False]  # baselines both stay
