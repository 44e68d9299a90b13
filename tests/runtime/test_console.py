"""Console output of a run, and a run whose output cannot be shown."""

from __future__ import annotations

import os
import sys

import pytest

from kd.runtime.console import Progress, print_line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("trouble", ["a full disk", "a reader that went away", "a terminal that was closed"])
def test_a_run_without_output_continues(trouble, monkeypatch, capfd):
    if trouble == "a full disk":
        end = os.open("/dev/full", os.O_WRONLY)
    elif trouble == "a reader that went away":
        other, end = os.pipe()
        os.close(other)
    else:
        other, end = os.openpty()
        os.close(other)
    monkeypatch.setattr(sys, "stdout", open(end, "w", buffering=1))  # noqa: SIM115
    progress = Progress("teacher", 2, 3)
    for _ in range(2):
        progress.step(1)
        progress.on_epoch_end("loss 1", 1.0)
        print_line("more")
    errors = capfd.readouterr().err
    assert errors.count("kd: standard output failed (") == (trouble != "a reader that went away")
