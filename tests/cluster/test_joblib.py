"""Several cells at once on one machine."""

from __future__ import annotations

import pytest

from tests.cluster.command import TEMPERATURES, cells, each_made_once, need, students


@pytest.fixture(scope="module", autouse=True)
def joblib():
    need("joblib")


def test_two_processes_share_one_teacher(undisturbed):
    outputs, said = undisturbed
    assert list(cells(outputs)) == TEMPERATURES.split(",")
    assert all(cell.status == "done" for cell in cells(outputs).values())
    assert each_made_once(outputs)
    assert len(set(students(outputs).values())) == 4, "four temperatures, four students"
    assert "UserWarning" not in said
