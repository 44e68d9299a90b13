"""Peak memory: of the process, and of its children."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from kd.bench.memory import descendants, peak_memory, peak_resident_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MEGABYTES = 2**20


def test_memory_that_was_freed_counts():
    before = peak_resident_bytes()
    with peak_memory(torch.device("cpu")) as peak:
        block = torch.ones(before // 4 + 64 * MEGABYTES)  # four bytes each
        del block
    assert peak.host >= before + 200 * MEGABYTES and peak.device is None


def test_a_child_counts():
    own = peak_resident_bytes()
    with peak_memory(torch.device("cpu")) as peak:
        child = subprocess.Popen([sys.executable, "-c", "x = b'1' * 200_000_000; print(flush=True); input()"], **PIPES)
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        time.sleep(0.4)
        child.communicate(b"\n")
    assert peak.host >= own + 180 * MEGABYTES
    assert child.pid not in descendants(os.getpid())


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
