"""What guides a search."""

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
    def objective(*said: str) -> str:
        cfg = compose(*said)
        check_values(OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True))
        return cfg.optimized_metric

    assert objective() == "student.training.best_val_accuracy"
    found = objective("train.pick_by=macro_f1")
    assert found == "student.training.best_val_macro_f1" and directions(found) == "maximize"
    assert objective("train.pick_by=macro_f1", "optimized_metric=student.training.best_val_accuracy")
    with pytest.raises(ValueError, match="best_val_macro_f1 is known where train.pick_by=macro_f1 says so"):
        objective("optimized_metric=student.training.best_val_macro_f1")


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


def test_a_number_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(KeyError, match="there is batch_1, but no batch_64"):
        metric_values(RESULT, "student.latency_ms.batch_64.p50")
