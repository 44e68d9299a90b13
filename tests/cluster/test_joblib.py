"""Several cells at once on one machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.command import (
    SMALL,
    TEMPERATURES,
    cells,
    each_made_once,
    environment,
    marked,
    need,
    started,
    students,
    sweep,
    teachers_trainer,
    wait_for,
)


@pytest.fixture(scope="module", autouse=True)
def joblib():
    need("joblib")


def test_two_processes_share_one_teacher(undisturbed):
    outputs, output = undisturbed
    assert list(cells(outputs)) == TEMPERATURES.split(",")
    assert all(cell.status == "done" for cell in cells(outputs).values())
    assert each_made_once(outputs)
    assert len(set(students(outputs).values())) == 4, "four temperatures, four students"
    assert "UserWarning" not in output


def test_a_killed_sweep_ends_its_processes_and_resumes(expected, home, place, tmp_path: Path):
    overrides = ["hydra/launcher=joblib", f"kd.temperature={TEMPERATURES}", "outputs=shared", *SMALL]
    env = environment(home, KD_CLUSTER=str(place))
    outputs = tmp_path / "shared"
    with started(*overrides, cwd=tmp_path, env=env) as process:
        trainer = wait_for("a process that trains the teacher", lambda: teachers_trainer(outputs), process)
        assert trainer != process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    began = time.monotonic()
    wait_for("an end of its processes", lambda: not marked(str(place)), seconds=10)
    print(f"its processes ended {time.monotonic() - began:.1f} s later")
    sweep(*overrides, cwd=tmp_path, env=env)
    assert students(outputs) == expected
