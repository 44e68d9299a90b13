"""Whole runs on the device: the same command twice, and after ``kill -9``, gives the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd.chaos import differences
from tests.conftest import CONF, TINY

RUN = [*TINY, "train.teacher.epochs=2", "train.student.epochs=2", "latency.seconds=0.05", "latency.batch=8"]
RUN += ["report=false", "tracking=disabled"]
METHODS = ["hinton", "at"]  # cached logits; maps that are pooled. test_step.py compares all methods


def start(outputs: Path, *overrides: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(CONF.parent)}
    command = [sys.executable, "-m", "kd.run", *RUN, *overrides, f"outputs={outputs}"]
    return subprocess.Popen(
        command, env=environment, cwd=outputs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen) -> str:
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def places(place, tmp_path_factory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("once", "twice", "killed")}


@pytest.mark.parametrize("method", METHODS)
def test_the_same_command_gives_the_same_bits(method, place, places):
    settings = [f"train.device={place}", f"kd={method}"]
    for name in ("once", "twice"):
        finish(start(places[name], *settings))
    assert not differences(places["once"], places["twice"])


def test_a_run_that_was_killed_gives_the_bits_of_one_that_was_not(place, tmp_path):
    peace, war = tmp_path / "peace", tmp_path / "war"
    settings = [f"train.device={place}", "train.checkpoint_minutes=0.0005", "train.student.ema=0.9"]
    settings += ["train.teacher.epochs=3", "train.student.epochs=4"]
    for folder in (peace, war):
        folder.mkdir()
    finish(start(peace, *settings))
    for kind in ("teachers", "students"):
        process = start(war, *settings)
        while len(list(war.glob(f"unfinished/{kind}-*/*.pt"))) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.005)
        process.kill()
        process.communicate()
    assert "resuming from" in finish(start(war, *settings))
    assert not differences(peace, war)
