"""The metrics agree with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from kd.evaluation import metrics as evaluation_metrics


@pytest.fixture(params=[2, 6, 10], ids=lambda k: f"{k} classes")
def case(request):
    generator = np.random.default_rng(request.param)
    targets = generator.integers(0, request.param, 400)
    logits = generator.normal(size=(400, request.param)).astype(np.float32)
    logits[np.arange(400), targets] += 1.5
    return logits, targets


def test_summary_agrees_with_scikit_learn(case):
    logits, targets = case
    names = tuple(f"class {k}" for k in range(logits.shape[1]))
    mine = evaluation_metrics.summary(logits, targets, names)
    predicted, chance = logits.argmax(-1), evaluation_metrics.probabilities(logits)
    assert mine["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predicted), abs=1e-12)
    assert mine["macro_f1"] == pytest.approx(metrics.f1_score(targets, predicted, average="macro"), abs=1e-12)
    balanced = metrics.balanced_accuracy_score(targets, predicted)
    assert mine["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12) and mine["top5_accuracy"] is None
    assert mine["nll"] == pytest.approx(metrics.log_loss(targets, chance), abs=1e-10)
    counts = metrics.confusion_matrix(targets, predicted)
    assert (np.array(mine["confusion"]) == counts).all()
    for k, name in enumerate(names):
        is_class, guessed = targets == k, predicted == k
        row = mine["per_class"][name]
        assert row["precision"] == pytest.approx(metrics.precision_score(is_class, guessed), abs=1e-12)
        assert row["recall"] == pytest.approx(metrics.recall_score(is_class, guessed), abs=1e-12)
        assert row["specificity"] == pytest.approx(metrics.recall_score(~is_class, ~guessed), abs=1e-12)
        assert row["f1"] == pytest.approx(metrics.f1_score(is_class, guessed), abs=1e-12)
        assert row["mcc"] == pytest.approx(metrics.matthews_corrcoef(is_class, guessed), abs=1e-12)
        assert row["support"] == is_class.sum()


def test_top_5_accuracy_with_more_than_ten_classes():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 11, 300)
    logits = generator.normal(size=(300, 11)).astype(np.float32)
    names = tuple(f"class {k}" for k in range(11))
    right = metrics.top_k_accuracy_score(targets, logits, k=5, labels=np.arange(11))
    assert evaluation_metrics.summary(logits, targets, names)["top5_accuracy"] == pytest.approx(right, abs=1e-12)
    assert evaluation_metrics.top_accuracy(logits, targets, 1) == evaluation_metrics.accuracy(logits, targets)


def test_among_equal_logits_the_lower_class_leads_as_in_argmax():
    logits, targets = np.zeros((12, 12), np.float32), np.arange(12)
    assert evaluation_metrics.top_accuracy(logits, targets, 5) == pytest.approx(5 / 12)
    assert (
        evaluation_metrics.top_accuracy(logits, targets, 1)
        == evaluation_metrics.accuracy(logits, targets)
        == pytest.approx(1 / 12)
    )
    assert evaluation_metrics.top_accuracy(np.full((12, 12), np.nan), targets, 5) == 0


def test_balanced_accuracy_leaves_out_a_class_without_images_and_macro_f1_counts_it_as_zero():
    logits, targets = np.eye(3)[[0, 0, 0, 1]], np.array([0, 0, 1, 1])
    assert evaluation_metrics.balanced_accuracy(logits, targets) == pytest.approx((1 + 0.5) / 2)
    assert evaluation_metrics.macro_f1(logits, targets) == pytest.approx((0.8 + 2 / 3) / 3)


def test_ece_by_hand():
    logits = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]))
    # bins of confidence 0.8 (one of two right), 0.6 (right), 0.7 (right)
    assert evaluation_metrics.ece(logits, np.array([0, 1, 0, 1])) == pytest.approx((2 * 0.3 + 0.4 + 0.3) / 4)
    assert evaluation_metrics.ece(np.array([[50.0, 0.0]]), np.array([0])) == pytest.approx(0, abs=1e-9)


def test_nll_stays_finite_on_extreme_logits():
    assert evaluation_metrics.nll(np.array([[800.0, -800.0]], np.float32), np.array([1])) == pytest.approx(1600)


def test_a_class_without_images_counts_as_zero_not_as_nan():
    table = evaluation_metrics.per_class(np.array([[3, 0, 0], [1, 2, 0], [0, 0, 0]]))
    assert all(np.isfinite(values).all() for values in table.values()) and table["f1"][2] == 0


def test_mcnemar_is_the_exact_binomial_test():
    from scipy.stats import binomtest

    targets = np.zeros(100, int)
    right, wrong = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    first = np.stack([right] * 60 + [wrong] * 40)
    second = np.stack([right] * 48 + [wrong] * 12 + [right] * 5 + [wrong] * 35)
    assert evaluation_metrics.mcnemar(first, second, targets) == pytest.approx(binomtest(5, 17).pvalue)
    assert evaluation_metrics.mcnemar(first, first, targets) == 1.0
    assert evaluation_metrics.agreement(first, second) == pytest.approx(0.83)


def test_bins_of_confidence_and_ece_agree_with_the_definition():
    generator = np.random.default_rng(3)
    targets, logits = generator.integers(0, 5, 400), generator.normal(size=(400, 5)).astype(np.float32)
    bins = evaluation_metrics.confidence_bins(logits, targets)
    chance = evaluation_metrics.probabilities(logits)
    confidence, right, ece = chance.max(1), chance.argmax(1) == targets, 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        assert bins.images[k] == inside.sum() and bins.right[k] == right[inside].sum()
        assert bins.confidence[k] == pytest.approx(confidence[inside].sum(), abs=1e-9)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert evaluation_metrics.ece(logits, targets) == pytest.approx(ece, abs=1e-9)


def test_the_pairs_that_are_confused_most_come_first():
    counts = np.diag([5, 6, 7])
    counts[0, 1], counts[2, 0], counts[1, 2] = 2, 9, 2
    most_confused = evaluation_metrics.most_confused
    assert most_confused(counts, 10) == [(2, 0, 9, 16), (0, 1, 2, 7), (1, 2, 2, 8)]
    assert most_confused(counts, 1) == [(2, 0, 9, 16)] and most_confused(np.diag([1, 2]), 10) == []
