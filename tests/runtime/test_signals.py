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

from tests import quickly
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
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
    assert told.splitlines()[-1] == "kd: interrupted; the same command resumes from here"
    assert "Traceback" not in told and took < 10  # below two seconds where the cores are ours
    reader, writer = os.pipe()
    again = start(outputs, stdout=writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as lines:
        went_on = any(line == f"teacher goes on from {stopped}\n" for line in lines)
    again.kill()
    again.wait()
    assert went_on


STUCK = """
import signal, sys, time
from kd.runtime.signals import SIGNALS, interruptible, install_handlers, defer_signals

for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)  # nohup had some of them ignored
install_handlers()
print("ready", flush=True)
try:
    if sys.argv[1] == "a checkpoint":
        with interruptible(1.0):
            with defer_signals():
                until = time.monotonic() + 3
                while time.monotonic() < until:
                    time.sleep(0.1)
                print("whole", flush=True)
            time.sleep(60)
    with interruptible(1.0):
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    ("stuck_in", "signals", "least", "most"),
    [
        ("a step", [signal.SIGINT], 1.0, 20),  # a second is what a step gets
        ("a step", [signal.SIGTERM], 1.0, 20),
        ("a step", [signal.SIGHUP], 1.0, 20),
        ("a step", [signal.SIGTERM, signal.SIGTERM], 1.0, 20),  # supervisors say it twice
        ("a step", [signal.SIGINT, signal.SIGINT], 0.0, 0.9),
        ("a checkpoint", [signal.SIGINT, signal.SIGINT], 2.0, 20),
    ],
)
def test_a_step_gets_a_second_and_a_checkpoint_what_it_takes(stuck_in, signals, least, most):
    command = [sys.executable, "-c", STUCK, stuck_in]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        began = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.1)
        said, _ = process.communicate(timeout=30)
        took = time.monotonic() - began
    assert said == ("whole\ninterrupted\n" if stuck_in == "a checkpoint" else "interrupted\n")
    assert least <= took <= most


NOTEBOOK = """
import signal
from kd.runtime.signals import defer_signals

try:
    with defer_signals():
        signal.raise_signal(signal.SIGINT)
        print("whole")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_where_nobody_listens_ctrl_c_waits_for_a_checkpoint_too():
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "whole\ninterrupted True\n", done.stderr
