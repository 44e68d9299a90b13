"""The metrics that a search optimises."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from kd.config.checks import check_values
from kd.config.search_objective import directions, metric_values
from tests.conftest import compose

RESULT = {"student": {"training": {"best_val_accuracy": 0.5}, "latency_ms": {"batch_1": {"p50": 2}}, "accuracy": 0.4}}


def test_one_number_or_several_each_with_its_direction():
    assert metric_values(RESULT, "student.training.best_val_accuracy") == 0.5
    both = ["student.training.best_val_accuracy", "student.latency_ms.batch_1.p50"]
    assert metric_values(RESULT, both) == (0.5, 2.0)
    assert directions(both) == ["maximize", "minimize"] and directions("student.macs") == "minimize"


def test_a_search_follows_what_validation_picks_by():
    def optimized_metric(*overrides: str) -> str:
        cfg = compose(*overrides)
        check_values(OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True))
        return cfg.optimized_metric

    assert optimized_metric() == "student.training.best_val_accuracy"
    metric = optimized_metric("train.pick_by=macro_f1")
    assert metric == "student.training.best_val_macro_f1" and directions(metric) == "maximize"
    assert optimized_metric("train.pick_by=macro_f1", "optimized_metric=student.training.best_val_accuracy")
    with pytest.raises(ValueError, match="best_val_macro_f1 requires train.pick_by=macro_f1"):
        optimized_metric("optimized_metric=student.training.best_val_macro_f1")


@pytest.mark.parametrize(
    "name",
    [
        "student.accuracy",
        "student.nll",
        "comparison.agreement",
        "student.training.seconds",
        "baseline.macs",
        "accuracy",
    ],
)
def test_the_test_split_never_picks(name):
    with pytest.raises(ValueError, match="the test split never picks"):
        directions(name)


def test_a_missing_number_is_reported_with_those_that_exist():
    with pytest.raises(KeyError, match="the result has batch_1, but no batch_64"):
        metric_values(RESULT, "student.latency_ms.batch_64.p50")
