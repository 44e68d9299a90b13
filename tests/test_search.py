"""What guides a search."""

from __future__ import annotations

import pytest

from kd.search import directions, values

RESULT = {"student": {"training": {"best_val_accuracy": 0.5}, "latency_ms": {"batch_1": {"p50": 2}}, "accuracy": 0.4}}


def test_one_number_or_several_each_with_its_direction():
    assert values(RESULT, "student.training.best_val_accuracy") == 0.5
    both = ["student.training.best_val_accuracy", "student.latency_ms.batch_1.p50"]
    assert values(RESULT, both) == (0.5, 2.0)
    assert directions(both) == ["maximize", "minimize"] and directions("student.macs") == "minimize"


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
        values(RESULT, "student.latency_ms.batch_64.p50")
