"""Widths on a terminal, JSON of any name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kd.predict.classify import Predictions
from kd.predict.tables import aligned, as_csv, as_json, display_width, terminal


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("forest", 6),
        ("línea", 5),
        ("li\u0301nea", 5),  # a combining accent
        ("森林", 4),
        ("🦉", 2),
        ("👩\u200d👩\u200d👧", 2),  # one emoji of three
        ("👍🏽", 2),  # a tone of skin
        ("❤\ufe0f", 2),  # a letter shown as an emoji
        ("한국", 4),
        ("", 0),
    ],
)
def test_display_width(text, width):
    assert display_width(text) == width


def test_columns_are_aligned_by_what_a_terminal_shows():
    lines = aligned([["森", "1"], ["ab🦉c", "10"], ["x", "3"]], right=[1]).splitlines()
    assert lines == ["森      1", "ab🦉c  10", "x       3"]
    assert {display_width(line) for line in lines} == {9}


def found(files=("a.png", "b.png"), classes=("cat", "dog", "🦉"), **more):
    count = len(files)
    values = {"top": np.array([[1, 0]] * count), "probability": np.array([[0.75, 0.125]] * count), "failed": []}
    return Predictions(files=list(files), classes=tuple(classes), **values | more)


def test_the_table_has_a_line_an_image_and_says_what_is_wrong():
    counts = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0]])
    lines = terminal(found(target=np.array([0, 1]), confusion=counts)).splitlines()
    assert lines[0].split() == ["file", "label", "class", "%", "2nd", "class", "%"]
    assert lines[1].split() == ["a.png", "cat", "✗", "dog", "75.00", "cat", "12.50"]
    assert lines[2].split() == ["b.png", "dog", "dog", "75.00", "cat", "12.50"]
    assert lines[4] == "accuracy 50.00 % (1 of 2 images)"
    assert [line.split() for line in lines[-3:]] == [[*"1", "cat", *"010"], [*"2", "dog", *"010"], [*"3", "🦉", *"000"]]


def test_json_reads_back_whatever_a_name_holds():
    names = ["caf\udce9.png", "two\nlines 🦉.png"]
    content = as_json(found(names, failed=[("\udcff", "empty")]), {"name": "a run"})
    read = json.loads(content)
    assert [each["file"] for each in read["pictures"]] == names and read["failed"][0]["file"] == "\udcff"
    assert "🦉".encode() in content and read["name"] == "a run"
    assert read["accuracy"] is None and read["confusion"] is None
    assert read["pictures"][0]["top"] == [{"class": "dog", "probability": 0.75}, {"class": "cat", "probability": 0.125}]


def test_csv_keeps_the_bytes_of_a_name():
    assert as_csv(found(["caf\udce9.png"])).splitlines()[1] == b"caf\xe9.png,dog,0.75,cat,0.125"


def test_nothing_readable_is_an_empty_table():
    none = found([], top=np.zeros((0, 2), int), probability=np.zeros((0, 2)), confusion=np.zeros((3, 3), int))
    assert terminal(none) == "" and none.accuracy is None and json.loads(as_json(none, {}))["pictures"] == []
