"""A warning is printed once: per run, per sweep, and by one of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CONF
from tests.pipeline.test_run import command

SPEAK = """
from pathlib import Path
from kd.runtime import user_warnings
{first}
print(user_warnings.plainly("take care", user_warnings.KdWarning), end="")
"""


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory) -> list[str]:
    """Settings of a run whose method warns about two classes, in its dry run and when it trains."""
    place = tmp_path_factory.mktemp("own")
    for label, (low, high) in {"dark": (0, 110), "jitter": (90, 200)}.items():
        (place / label).mkdir()
        for number in range(20):
            noise = np.random.default_rng(number).integers(low, high, (16, 16), np.uint8)
            Image.fromarray(noise).save(place / label / f"{number}.png")
    settings = ["data=folder", f"data.root={place}", "data.image_size=16", "train.batch_size=4096", "kd=dist"]
    settings += ["teacher=tiny_cnn", "teacher.width=0.25", "student.width=0.25", "teacher.allow_weak=true"]
    settings += ["train.teacher.epochs=1", "train.student.epochs=1", "latency.seconds=0.01", "latency.batch=2"]
    return [*settings, "report=false", "tracking=disabled", "baseline=false"]


def test_a_run_that_trains_its_teacher_prints_each_warning_once(two_classes, tmp_path):
    # Python's own filter forgets what it has shown when a heavy module is imported, so the process imports it
    lines = command(*two_classes, outputs=tmp_path / "outputs", cwd=tmp_path, forked=False).stderr.splitlines()
    printed = [line for line in lines if line.startswith("kd: ")]
    assert len(printed) == len(set(printed)) == 2, printed
    assert "so one batch holds all of them" in printed[0] and "DIST with two classes" in printed[1]


def test_a_sweep_prints_each_warning_once_and_again_when_it_is_restarted(two_classes, tmp_path):
    for forked in (False, True):
        swept = ["-m", *two_classes, "seed=1,2", "sweep=both"]
        lines = command(*swept, outputs=tmp_path / "outputs", cwd=tmp_path, forked=forked).stderr.splitlines()
        printed = [line for line in lines if line.startswith("kd: ")]
        assert len(printed) == len(set(printed)) == 2 and "so one batch holds all of them" in printed[0], printed


def printed_by(where: Path | None, **environment: str) -> str:
    first = f"user_warnings.share_shown(Path({str(where)!r}))" if where else "0"
    env = os.environ | {"PYTHONPATH": str(CONF.parent)} | environment
    done = subprocess.run([sys.executable, "-c", SPEAK.format(first=first)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_of_several_processes_prints_it(tmp_path):
    assert [printed_by(None, WORLD_SIZE="2", RANK=rank) for rank in "01"] == ["kd: take care\n", ""], "of one run"
    assert [printed_by(tmp_path) for _ in range(2)] == ["kd: take care\n", ""], "of one sweep, in a launcher's workers"
    assert printed_by(tmp_path / "nowhere" / "more") == "kd: take care\n", "better twice than never"
