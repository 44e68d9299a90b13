"""Turns: processes compute one after another, and neither a stopped nor a dead process blocks the others for long."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd.runtime import turns
from kd.runtime.turns import NO_TURNS, Turns

pytestmark = pytest.mark.skipif(turns.fcntl is None or not hasattr(os, "sched_getaffinity"), reason="no turns here")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
LOG = """
import sys, time
from pathlib import Path
from kd.runtime.turns import Turns
take, log = Turns({count}, Path(sys.argv[1])), []
print("ready", flush=True)
sys.stdin.readline()
for _ in range({rounds}):
    with take():
        began = time.monotonic()
        time.sleep(0.02)
        log.append((began, time.monotonic()))
print(log)
"""
HOLD = """
import sys, time
from pathlib import Path
from kd.runtime.turns import Turns
with Turns(99, Path(sys.argv[1]))():
    print("held", flush=True)
    time.sleep(60)
"""


def start(code: str, folder: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    return process


def logs(folder: Path, count: int, processes: int = 2, rounds: int = 10) -> list[list[tuple[float, float]]]:
    running = [start(LOG.format(count=count, rounds=rounds), folder) for _ in range(processes)]
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return [eval(process.communicate()[0]) for process in running]


def test_two_processes_that_need_all_cores_never_compute_at_once_and_alternate(tmp_path):
    first, second = logs(tmp_path, CORES)
    whole = sorted([(*span, 0) for span in first] + [(*span, 1) for span in second])
    assert all(left[1] <= right[0] for left, right in zip(whole, whole[1:], strict=False))
    shared = [owner for _, _, owner in whole][2:-2]
    changes = sum(left != right for left, right in zip(shared, shared[1:], strict=False))
    assert changes > len(shared) / 2  # neither waits for the whole training of the other


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_processes_that_fit_beside_each_other_do_not_wait(tmp_path):
    first, second = logs(tmp_path, CORES // 2)
    assert any(a[0] < b[1] and b[0] < a[1] for a in first for b in second)


def test_a_dead_process_gives_its_cores_back_and_a_stopped_one_is_not_waited_for_long(tmp_path, monkeypatch):
    holder, take = start(HOLD, tmp_path), Turns(1_000, tmp_path)
    monkeypatch.setattr(turns, "PATIENCE", 0.2)
    began = time.monotonic()
    with take():
        assert time.monotonic() - began >= 0.2  # computes without a turn
    again = time.monotonic()
    with take():
        assert time.monotonic() - again < 0.2  # and does not wait before each step
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    take.alone_until = 0.0
    with take():
        assert len(take.held) == CORES
    assert not take.held


def test_a_turn_within_a_turn_is_the_same_turn_and_an_error_ends_it(tmp_path):
    take = Turns(1, tmp_path)
    with pytest.raises(ValueError, match="inside"), take():
        with take():
            pass
        assert len(take.held) == 1
        raise ValueError("inside")
    assert not take.held


def test_without_turns_nothing_is_locked():
    with NO_TURNS():
        assert not NO_TURNS.count
