"""Every published value has a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.conftest import golden
from tests.methods.published import PARTS, agrees


def test_every_published_method_is_compared_with_ours():
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    compared = set(re.findall(r'"(\w+)"', "".join(re.findall(r"@entries\(([^)]*)\)", text))))
    published = {entry["method"] for part in PARTS for entry in golden(part)["entries"]}
    assert compared == published


def test_the_comparison_sees_a_wrong_value_and_a_wrong_gradient():
    entry = next(entry for entry in golden("losses")["entries"] if entry["id"] == "KD-00")

    def right(student, teacher):
        gap = teacher.log_softmax(-1) - student.log_softmax(-1)
        return (teacher.softmax(-1) * gap).sum(-1).mean()

    agrees(entry, torch.float64, right)
    for wrong in (
        lambda student, teacher: right(student, teacher) * (1 + 1e-9),
        lambda student, teacher: right(student.detach(), teacher) + 0 * student.sum(),
    ):
        with pytest.raises(AssertionError):
            agrees(entry, torch.float64, wrong)
