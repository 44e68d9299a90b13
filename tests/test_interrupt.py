"""Ctrl-C and SIGTERM, sent to a real command: it ends at once, behind a checkpoint, and goes on to the same bits."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests import quickly
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
SETTINGS = [
    *TINY,
    "teacher=tiny_cnn",
    "train.teacher.epochs=40",
    "train.student.epochs=2",
    "train.checkpoint_minutes=9",
]
SETTINGS += ["train.threads=1", "baseline=false", "tracking=disabled", "report=false", "latency.seconds=0.02"]


def start(outputs: Path, **how):
    settings = [*SETTINGS, f"outputs={outputs}"]
    return quickly.start("kd.run", *settings, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, **how)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_signal_ends_it_behind_a_checkpoint_from_which_it_goes_on(tmp_path, sent):
    outputs = tmp_path / "outputs"
    command = start(outputs)
    while not list(outputs.glob("unfinished/teachers-*/*.pt")):
        time.sleep(0.01)
        assert command.poll() is None, command.communicate()
    began = time.monotonic()
    command.send_signal(sent)
    said, told = command.communicate(timeout=60)
    took = time.monotonic() - began
    assert command.returncode == 128 + sent
    stopped = re.search("^teacher stops behind (.*), where a checkpoint is$", said, re.MULTILINE).group(1)
    assert told.splitlines()[-1] == "kd: interrupted; the same command goes on from here"
    assert "Traceback" not in told and took < 10  # below two seconds where the cores are ours
    reader, writer = os.pipe()
    again = start(outputs, stdout=writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as lines:
        went_on = any(line == f"teacher goes on from {stopped}\n" for line in lines)
    again.kill()
    again.wait()
    assert went_on
