"""How long one forward pass takes, and whether the machine was left to it meanwhile.

A busy core beside the measurement does not make some calls late but all of them: two OpenMP threads wait for each other
in every layer, so that a call of 0.6 ms took 180 ms with p95 / p50 = 1.03 (two cores, one busy loop of a better
priority). Neither the median nor the minimum shows it. What shows it is the time for which threads of this process were
ready to run and got no core. So time is taken in short blocks, each judged by that, and only calm blocks count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kd.runtime.device import Device

BLOCK = 0.025  # seconds: a few scheduler ticks; a call that takes longer is a block of its own
WAITED = 0.05  # share of a block for which a thread may have waited for a core: a calm Linux has 0.001
OTHERS = 0.25  # share of our cores that others may have had: a core's second thread, its cache, its clock are shared
JUDGED = 0.2  # seconds below which the system's count of that, in steps of 0.01 s, is too coarse
PATIENCE = 4.0  # how often the wanted time may pass until the calm blocks of a busy machine make it up
ENOUGH = 10  # calls that a percentile wants; FEWEST where they are slow
FEWEST = 3


def latency(
    network: nn.Module, image_size: int, device: Device, large_batch: int = 64, seconds: float = 1.0
) -> dict[str, Any]:
    """Time ``network`` as it would be deployed: float32, eval mode, after a warm-up, synchronised.

    On a CPU it is timed with one thread, too: that figure carries from machine to machine, and no thread waits for
    another in it.

    Args:
        large_batch: images in the second batch size. seconds: about how long each is timed.

    Returns:
        ``{"latency_ms": {"batch_1": {"p50", "p95", "calm"}, "batch_<n>": ...}, "throughput": images/s at the large
        batch, "one_thread": the same two of one thread, or None}``. ``calm`` is False where something else used the
        cores so much that the numbers say nothing.
    """
    network = device.to_device(network).eval()
    with torch.inference_mode():
        every = _both_batches(network, image_size, device, large_batch, seconds)
        if device.device.type != "cpu":
            return {**every, "one_thread": None}
        if torch.get_num_threads() == 1:
            return {**every, "one_thread": every}
        with threads(1):
            return {**every, "one_thread": _both_batches(network, image_size, device, large_batch, seconds)}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` CPU threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _both_batches(
    network: nn.Module, image_size: int, device: Device, large_batch: int, seconds: float
) -> dict[str, Any]:
    times = {}
    for batch in (1, large_batch):
        image = torch.rand(batch, 3, image_size, image_size, device=device.device)
        if device.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)

        def call(image: torch.Tensor = image) -> None:
            network(image)
            device.synchronize()

        # an accelerator's own processor is nobody's to take; what may wait is the thread that feeds it
        count = torch.get_num_threads() if device.device.type == "cpu" else 1
        times[f"batch_{batch}"] = time_calls(call, count, seconds)
    return {"latency_ms": times, "throughput": 1e3 * large_batch / times[f"batch_{large_batch}"]["p50"]}


def time_calls(call: Callable[[], None], thread_count: int, seconds: float) -> dict[str, Any]:
    """Time ``call`` again and again until ``seconds`` of calm blocks are there, or patience ends.

    Args:
        thread_count: threads that the call keeps busy.

    Returns:
        ``{"p50", "p95"}`` in milliseconds, of the calls in calm blocks, and ``"calm"``: whether there were enough of
        them. Otherwise all calls count, for want of better ones.
    """
    began = time.perf_counter()
    for _ in range(FEWEST):  # the first call makes what later ones find
        call()
        if time.perf_counter() - began > seconds:
            break
    calm: list[float] = []
    every: list[float] = []
    spent = 0.0  # seconds in calm blocks
    began, whole = time.perf_counter(), CpuUsage()
    while True:
        before, block = CpuUsage(), []
        while not block or 1e-3 * sum(block) < BLOCK:
            start = time.perf_counter()
            call()
            block.append(1e3 * (time.perf_counter() - start))
        every += block
        if CpuUsage().waited_since(before, thread_count) <= WAITED:
            calm += block
            spent += 1e-3 * sum(block)
        over = time.perf_counter() - began > PATIENCE * seconds
        if (spent >= seconds and len(calm) >= ENOUGH) or (over and len(every) >= FEWEST):
            break
    is_enough = len(calm) >= FEWEST and (spent >= seconds / 4 or len(calm) >= 100)
    is_enough = is_enough and CpuUsage().had_by_others_since(whole) <= OTHERS
    p50, p95 = np.percentile(calm if is_enough else every, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "calm": is_enough}


class CpuUsage:
    """What this process had of the machine until now."""

    def __init__(self) -> None:
        self.queued, self.cores = _queued(), _cores()
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def waited_since(self, before: CpuUsage, thread_count: int) -> float:
        """The share of the time since ``before`` for which threads of this process waited for a core.

        Linux counts it, for every thread. Elsewhere it is what is missing of ``thread_count`` cores' time: that is
        right as long as OpenMP's threads spin while they wait for each other, their default, and with one thread.
        """
        wall = self.wall - before.wall
        if self.queued is None or before.queued is None:
            return max(0.0, 1 - (self.cpu - before.cpu) / (wall * thread_count))
        return max(ns - before.queued.get(thread, 0) for thread, ns in self.queued.items()) / 1e9 / wall

    def had_by_others_since(self, before: CpuUsage) -> float:
        """The share of the time of the cores that this process may use which others had since ``before``; 0 where the
        system does not say, or too coarsely."""
        wall = self.wall - before.wall
        if self.cores is None or before.cores is None or wall < JUDGED:
            return 0.0
        busy, count = self.cores[0] - before.cores[0], self.cores[1]
        return max(0.0, busy - (self.cpu - before.cpu)) / (wall * count)


def _queued() -> dict[str, int] | None:
    """Nanoseconds that each thread was ready to run and had no core, by thread; None where the system does not say."""
    found = {}
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError, IndexError, ValueError):  # a thread that has just ended
                found[thread] = int(Path(f"/proc/self/task/{thread}/schedstat").read_bytes().split()[1])
    return found or None


def _cores() -> tuple[float, int] | None:
    """Seconds for which the cores that this process may use were busy, whoever had them, and how many those are."""
    with suppress(OSError, ValueError, AttributeError):
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
        rows = [list(map(int, line[1:9])) for line in lines if line[0] in own]
        if rows:  # user, nice, system, idle, iowait, irq, softirq, steal
            return sum(sum(row) - row[3] - row[4] for row in rows) / os.sysconf("SC_CLK_TCK"), len(rows)
    return None
