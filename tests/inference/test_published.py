"""The students under experiments/weights, which anybody can evaluate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import kd

FILES = sorted((Path(__file__).parents[2] / "experiments" / "weights").glob("*.safetensors"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_published_student_loads_by_itself_and_is_small(file):
    student = kd.load(file)

    assert sum(weights.numel() for weights in student.parameters()) < 100_000
    assert file.stat().st_size < 500_000
    assert student(torch.rand(2, 3, 100, 100)).shape == (2, len(student.classes))


def test_students_are_published():
    assert FILES
