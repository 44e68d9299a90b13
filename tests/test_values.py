"""A value has one spelling, and what was typed is what is said."""

from __future__ import annotations

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kd.values import said, spelled, told, typed

SPELLED = {  # as it is typed -> as it is said
    **{
        text: text for text in ("null", "true", "false", "4", "-1", "0.9", "1e-05", "resnet18", "[1,2]", "nan", "A/b.c")
    },
    **{"NULL": "null", "True": "true", "FALSE": "false", "4.0": "4", "1_000": "1000", "'a b'": "a b", "None": "None"},
    **{"'4'": "'4'", '"null"': "'null'", "'true'": "'true'", "'1e3'": "'1e3'", "'it\\'s'": "it's", "'nan'": "'nan'"},
    **{"٣": "٣", "été": "été"},  # a digit to Python alone
}


@pytest.mark.parametrize("text", SPELLED)
def test_a_value_is_said_as_it_is_typed(text):
    assert said(typed(text)) == SPELLED[text]


@pytest.mark.parametrize("text", SPELLED.values())
def test_what_is_said_is_read_again_as_the_same_value(text):
    value, again = typed(text), typed(said(typed(text)))
    assert type(again) is type(value) and (again == value or math.isnan(value))


@pytest.mark.parametrize("text", ["null", "True", "4", "4.0", "'4'", "'null'", "1_000", "None", "'a b'", "resnet18"])
def test_hydra_reads_the_same(text):
    assert OverridesParser.create().parse_override(f"x={text}").value() == typed(text)


def test_numbers_stay_numbers_for_those_who_sort():
    values = [1, 0.1234567890123, None, True, "dkd", "4"]
    assert list(map(told, values)) == [1, 0.1234567890123, "null", "true", "dkd", "'4'"]


def test_overrides_are_spelled_as_they_are_typed():
    lines = ["report=True", "kd.x=False", "train.student.ema=null", "teacher.name='True'", "seed=0"]
    assert list(map(spelled, lines)) == ["report=true", "kd.x=false", *lines[2:]]
