"""Suggestions for a misspelt name, and long lists."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kd.runtime.text import did_you_mean, first_few, suggestion


def test_similar_names_are_suggested():
    assert did_you_mean("hintn", ["dkd", "hinton", "at"]) == "; did you mean hinton?"
    assert did_you_mean("cifar", ["cifar10", "cifar100", "scenes"]) == "; did you mean cifar10 or cifar100?"
    assert did_you_mean("cifar", ["cifar10", "cifar100"], most=1) == "; did you mean cifar10?"
    assert did_you_mean("xyz", ["dkd", "hinton"]) == ""
    assert did_you_mean("at", ["at_", "at_"]) == "; did you mean at_?", "one name is suggested once"


def test_suggestions_are_joined_as_a_sentence():
    assert [suggestion(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "; did you mean a?",
        "; did you mean a or b?",
        "; did you mean a, b or c?",
    ]


@pytest.mark.parametrize(
    ("count", "most", "right"),
    [(0, 2, ""), (2, 2, "0, 1"), (3, 2, "0, 1, and 1 more"), (5000, 1, "0, and 4,999 more")],
)
def test_a_long_list_is_cut_and_counted(count, most, right):
    assert first_few(range(count), most) == right


def test_a_list_that_is_cut_already_names_its_whole_count():
    assert first_few(["a", "b"], 20, "\n  ", total=30) == "a\n  b\n  and 28 more"


def test_these_helpers_need_the_standard_library_alone():
    """``kd/config`` and the report import them, whose commands answer before torch would be imported."""
    code = "import sys, kd.runtime.text, kd.runtime.values; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "yaml", "omegaconf"} & set(loaded)
