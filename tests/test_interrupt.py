"""Ctrl-C and SIGTERM, sent to a real command: it ends at once, behind a checkpoint, and goes on to the same bits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def start(outputs: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "kd.run", *SETTINGS, f"outputs={outputs}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # who starts the tests in the background of a script has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_signal_ends_it_behind_a_checkpoint_from_which_it_goes_on(tmp_path, sent):
    outputs = tmp_path / "outputs"
    command = start(outputs)
    while not list(outputs.glob("unfinished/teachers-*/*.pt")):
        time.sleep(0.01)
        assert command.poll() is None, command.communicate()
    began = time.monotonic()
    command.send_signal(sent)
    said = command.communicate(timeout=60)[0]
    took = time.monotonic() - began
    assert command.returncode == 128 + sent
    stopped = re.search("^teacher stops behind (.*), where a checkpoint is$", said, re.MULTILINE).group(1)
    assert said.splitlines()[-1] == "kd: interrupted; the same command goes on from here"
    assert "Traceback" not in said and took < 10  # below two seconds where the cores are ours
    again = start(outputs)
    went_on = any(line == f"teacher goes on from {stopped}\n" for line in again.stdout)
    again.kill()
    again.communicate()
    assert went_on
