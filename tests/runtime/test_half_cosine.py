"""The series agrees with the cosine."""

from __future__ import annotations

import math

import pytest

from kd.runtime.half_cosine import half_cosine


def test_it_is_half_a_cosine_from_exactly_one_to_nothing():
    for share in (k / 100 for k in range(101)):
        assert half_cosine(share) == pytest.approx((1 + math.cos(math.pi * share)) / 2, abs=2e-15)
    assert half_cosine(0.0) == 1 and half_cosine(0.5) == 0.5 and abs(half_cosine(1.0)) < 2e-15
