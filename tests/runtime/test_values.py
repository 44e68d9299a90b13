"""A value has one spelling: the one that you type."""

from __future__ import annotations

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kd.runtime.values import flatten, format_override, format_value, is_number, number_or_text, parse_value

SPELLED = {  # as you type it -> as reports write it
    **{
        text: text for text in ("null", "true", "false", "4", "-1", "0.9", "1e-05", "resnet18", "[1,2]", "nan", "A/b.c")
    },
    **{"NULL": "null", "True": "true", "FALSE": "false", "4.0": "4", "1_000": "1000", "'a b'": "a b", "None": "None"},
    **{"'4'": "'4'", '"null"': "'null'", "'true'": "'true'", "'1e3'": "'1e3'", "'it\\'s'": "it's", "'nan'": "'nan'"},
    **{"٣": "٣", "été": "été"},  # a digit for Python, but not for Hydra
}


@pytest.mark.parametrize("text", SPELLED)
def test_a_value_is_written_as_you_type_it(text):
    assert format_value(parse_value(text)) == SPELLED[text]


@pytest.mark.parametrize("text", SPELLED.values())
def test_what_is_written_is_parsed_as_the_same_value(text):
    value, again = parse_value(text), parse_value(format_value(parse_value(text)))
    assert type(again) is type(value) and (again == value or math.isnan(value))


@pytest.mark.parametrize("text", ["null", "True", "4", "4.0", "'4'", "'null'", "1_000", "None", "'a b'", "resnet18"])
def test_hydra_reads_the_same(text):
    assert OverridesParser.create().parse_override(f"x={text}").value() == parse_value(text)


def test_numbers_stay_numbers_for_those_who_sort():
    values = [1, 0.1234567890123, None, True, "dkd", "4"]
    assert list(map(number_or_text, values)) == [1, 0.1234567890123, "null", "true", "dkd", "'4'"]


def test_overrides_are_written_as_you_type_them():
    lines = ["report=True", "kd.x=False", "train.student.ema=null", "teacher.name='True'", "seed=0"]
    assert list(map(format_override, lines)) == ["report=true", "kd.x=false", *lines[2:]]


@pytest.mark.parametrize("value", [0, -3, 2.5, 1e308])
def test_finite_numbers_are_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, False, None, "4", math.nan, math.inf, -math.inf, 10**400, [1]])
def test_booleans_text_and_what_is_not_finite_are_none(value):
    assert not is_number(value)


def test_nested_mappings_become_joined_names():
    tree = {"kd": {"temperature": 4, "terms": {}}, "seed": 0, "tags": ["a"]}
    assert dict(flatten(tree)) == {"kd.temperature": 4, "seed": 0, "tags": ["a"]}
    assert dict(flatten(tree, keep_empty=True)) == {"kd.temperature": 4, "kd.terms": {}, "seed": 0, "tags": ["a"]}
    assert dict(flatten({"a": {"b": 1}}, separator="/")) == {"a/b": 1}
