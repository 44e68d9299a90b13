"""What a teacher's answers hold beyond their first class."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kd.diagnose import answers

LOGITS = np.random.default_rng(0).normal(0, 4, (50, 7)).astype(np.float32)


def test_even_answers_have_all_the_entropy_and_sure_ones_none():
    assert answers.entropy_share(np.zeros((3, 5))) == pytest.approx(1)
    assert answers.rest_entropy_share(np.zeros((3, 5))) == pytest.approx(1)
    assert answers.mass_beside_first(np.zeros((3, 5))) == pytest.approx(0.8)
    sure = 1e4 * np.eye(5)[[0, 3]]
    assert answers.entropy_share(sure) == answers.mass_beside_first(sure) == 0


def test_the_rest_is_measured_without_the_first_class():
    """A second class alone, however improbable, has no entropy beside it; log(K - 1) is not defined for two classes."""
    logits = np.array([[9.0, 0.0, -500.0, -500.0]])
    assert answers.rest_entropy_share(logits) == pytest.approx(0, abs=1e-12)
    assert answers.rest_entropy_share(np.array([[9.0, 1.0, 1.0, 1.0]])) == pytest.approx(1)
    assert answers.rest_entropy_share(np.zeros((2, 2))) is None


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_entropy_splits_into_the_first_class_and_the_rest(temperature):
    """H = H(first or not) + P(not first) H(rest), image by image: the chain rule of entropy."""
    for row in LOGITS[:9, None]:
        beside = answers.mass_beside_first(row, temperature)
        binary = -beside * math.log(beside) - (1 - beside) * math.log(1 - beside)
        rest = beside * answers.rest_entropy_share(row, temperature) * math.log(6)
        assert answers.entropy_share(row, temperature) * math.log(7) == pytest.approx(binary + rest)


def test_the_temperature_for_a_probability_beside_the_first_class():
    found = answers.temperature_for(LOGITS, 0.3)
    assert answers.mass_beside_first(LOGITS, found) >= 0.3 > answers.mass_beside_first(LOGITS, found - 0.5)
    assert answers.temperature_for(1e6 * LOGITS, 0.3) == answers.HOTTEST, "no temperature in use is enough"


def test_confidence_is_that_of_the_likeliest_class():
    assert answers.confidence(np.log([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])) == pytest.approx(0.6)
