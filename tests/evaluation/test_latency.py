"""A latency is that of the network, or is marked as not valid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import cycle

import pytest
import torch
from torch import nn

from kd.evaluation import latency
from kd.evaluation.latency import CpuUsage, threads, time_calls
from kd.models.tiny_cnn import TinyCNN
from kd.records.run_folder import is_calm

COUNTED = sys.platform == "linux" and latency.queued_ns() is not None
CROWDED = """
import os, subprocess, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from kd.evaluation.latency import time_calls
beside = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    print(time_calls(lambda: sum(range(20_000)), 1, 0.3)["calm"])
finally:
    beside.kill()
"""


@pytest.mark.skipif(not COUNTED, reason="only Linux counts how long a thread waited for a core")
def test_a_core_that_is_shared_is_noticed():
    done = subprocess.run([sys.executable, "-c", CROWDED], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.skipif(not COUNTED, reason="only Linux counts how long a thread waited for a core")
def test_threads_of_this_process_that_wait_for_each_other_are_noticed():
    """More spinning threads than cores: every call is late alike, so that p95 / p50 is near 1."""
    before, until = CpuUsage(), time.perf_counter() + 0.3
    cores = len(os.sched_getaffinity(0))
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * cores)]
    try:
        while time.perf_counter() < until:
            pass
        assert CpuUsage().waited_since(before, 1) > latency.MAX_WAITED_SHARE
        assert CpuUsage().had_by_others_since(before) > latency.MAX_SHARE_OF_OTHERS
    finally:
        for process in beside:
            process.kill()


def test_a_core_beside_that_others_have_counts_too(monkeypatch):
    """Two hardware threads may share one core: ours gets slower although none of our threads waits."""
    before, now = CpuUsage(), CpuUsage()
    before.cores, now.cores = (10.0, 2), (11.9, 2)
    now.wall, now.cpu = before.wall + 1.0, before.cpu + 1.0
    assert now.had_by_others_since(before) == pytest.approx(0.45)
    now.cpu = before.cpu + 1.9
    assert now.had_by_others_since(before) == pytest.approx(0)
    now.wall = before.wall + latency.MIN_JUDGED_SECONDS / 2
    assert CpuUsage.had_by_others_since(now, before) == 0, "too short for the system's count"
    monkeypatch.setattr(latency, "busy_cores", lambda: None)
    assert CpuUsage().had_by_others_since(before) == 0


def test_without_the_systems_count_cpu_time_is_compared_with_cores(monkeypatch):
    monkeypatch.setattr(latency, "queued_ns", lambda: None)
    before = CpuUsage()
    time.sleep(0.05)
    assert CpuUsage().waited_since(before, 1) > 0.9, "nothing ran"
    now, before = CpuUsage(), CpuUsage()
    now.wall, now.cpu = before.wall + 1.0, before.cpu + 1.0
    assert now.waited_since(before, 1) == pytest.approx(0) and now.waited_since(before, 2) == pytest.approx(0.5)


def test_only_calm_blocks_count(monkeypatch):
    """Every second block is disturbed, and its calls take ten times as long."""
    busy, now = cycle([True, False]), {"busy": False}

    class Every2nd(CpuUsage):
        def waited_since(self, before, thread_count):
            was, now["busy"] = now["busy"], next(busy)
            return 1.0 if was else 0.0

        def had_by_others_since(self, before):
            return 0.0

    monkeypatch.setattr(latency, "CpuUsage", Every2nd)
    found = time_calls(lambda: time.sleep(0.03 if now["busy"] else 0.003), 1, 0.1)
    assert found["calm"] and found["p50"] < 20
    monkeypatch.setattr(latency, "MAX_WAITED_SHARE", -1.0)
    found = time_calls(lambda: time.sleep(0.003), 1, 0.05)
    assert not found["calm"] and found["p50"] >= 3, "without calm blocks all calls count"


def test_a_slow_network_is_not_called_for_ever(monkeypatch):
    calls = []
    monkeypatch.setattr(latency, "MAX_WAITED_SHARE", -1.0)
    time_calls(lambda: (calls.append(1), time.sleep(0.02)), 1, 0.001)
    assert len(calls) < 10


class Noted(nn.Module):
    """Notes whether torch was free to choose its algorithms."""

    def __init__(self):
        super().__init__()
        self.modes = set()

    def forward(self, image):
        self.modes.add(torch.get_deterministic_debug_mode())
        return image.mean((2, 3))


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_a_network_is_timed_with_the_algorithms_of_its_deployment(machine, mode):
    """Deterministic ones are slower, on an accelerator much slower for some networks."""
    before, noted = torch.get_deterministic_debug_mode(), Noted()
    try:
        torch.set_deterministic_debug_mode(mode)
        latency.latency(noted, 8, machine, 2, 0.001)
        assert noted.modes == {0}
        assert torch.get_deterministic_debug_mode() == mode, "training goes on as before"
    finally:
        torch.set_deterministic_debug_mode(before)


def test_one_thread_is_timed_beside_all_of_them(machine):
    with threads(2):
        found = latency.latency(TinyCNN(6, 16), 16, machine, 8, 0.02)
        assert torch.get_num_threads() == 2
    assert set(found["one_thread"]["latency_ms"]) == set(found["latency_ms"]) == {"batch_1", "batch_8"}
    assert found["one_thread"]["throughput"] != found["throughput"]
    for times in (*found["latency_ms"].values(), *found["one_thread"]["latency_ms"].values()):
        assert 0 < times["p50"] <= times["p95"] and times["calm"] in (True, False)
    found["one_thread"]["latency_ms"]["batch_8"]["calm"] = False
    assert not is_calm(found)
