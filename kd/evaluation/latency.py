"""The time of one forward pass, and whether other processes disturbed the measurement.

A busy process beside this one slows down every call, not just a few, because OpenMP's threads wait for each other in
every layer. A call of 0.6 ms took 180 ms with p95 / p50 = 1.03 (two cores, one busy loop with a higher priority). So
neither the median nor the minimum shows the disturbance. What shows it is the time for which a thread of this process
was ready to run and got no core. Latency is therefore measured in short blocks. A block is calm if that time is a small
share of it, and only calm blocks count.
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
from kd.runtime.threads import threads

BLOCK_SECONDS = 0.025  # seconds: a few scheduler ticks; a call that takes longer is a block of its own
MAX_WAITED_SHARE = 0.05  # share of a block for which a thread may have waited for a core: a calm Linux has 0.001
MAX_SHARE_OF_OTHERS = (
    0.25  # share of our cores that other processes may use: hardware threads share a core, its cache, its clock
)
MIN_JUDGED_SECONDS = 0.2  # seconds; over less time the system's count of that share, in steps of 0.01 s, is too coarse
MAX_STRETCH = 4.0  # the measurement may take this many times the wanted seconds, to collect calm blocks
MIN_CALLS = 10  # calls for a percentile
MIN_SLOW_CALLS = 3  # calls for a percentile of a slow network


def latency(
    network: nn.Module, image_size: int, device: Device, large_batch: int = 64, seconds: float = 1.0
) -> dict[str, Any]:
    """Time ``network`` as it would be deployed: float32, eval mode, after a warm-up, synchronised.

    On a CPU it is also timed with one thread: that number compares best between machines, and no thread waits for
    another. On an accelerator a call at batch 1 mostly takes as long as its kernels take to launch, one after another:
    it compares networks by their number of operations, where on a CPU it compares them by their size.

    Args:
        large_batch: images in the second batch size. seconds: about how long each batch size is timed.

    Returns:
        ``{"latency_ms": {"batch_1": {"p50", "p95", "calm"}, "batch_<n>": ...}, "throughput": images/s at the large
        batch, "one_thread": the same two with one thread, or None}``. ``calm`` is False if other processes used the
        cores so much that the numbers are not valid.
    """
    network = device.to_device(network).eval()
    with torch.inference_mode(), free_algorithms():
        all_threads = _both_batches(network, image_size, device, large_batch, seconds)
        if device.device.type != "cpu":
            return {**all_threads, "one_thread": None}
        if torch.get_num_threads() == 1:
            return {**all_threads, "one_thread": all_threads}
        with threads(1):
            return {**all_threads, "one_thread": _both_batches(network, image_size, device, large_batch, seconds)}


@contextmanager
def free_algorithms() -> Iterator[None]:
    """Let torch choose any algorithm inside, as in deployment.

    Training needs those that give equal bits at equal seeds, and these are slower: with them every new tensor is
    filled, and on an accelerator some operations are decomposed into many, also in evaluation.
    """
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


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

        # other processes do not take an accelerator's processor; the one thread that feeds it may have to wait
        count = torch.get_num_threads() if device.device.type == "cpu" else 1
        times[f"batch_{batch}"] = time_calls(call, count, seconds)
    return {"latency_ms": times, "throughput": 1e3 * large_batch / times[f"batch_{large_batch}"]["p50"]}


def time_calls(call: Callable[[], None], thread_count: int, seconds: float) -> dict[str, Any]:
    """Time ``call`` repeatedly, until calm blocks add up to ``seconds`` or ``PATIENCE`` times ``seconds`` have passed.

    Args:
        thread_count: threads that the call keeps busy.

    Returns:
        ``{"p50", "p95"}`` in milliseconds over the calls in calm blocks, and ``"calm"``: whether there were enough of
        them. If not, the percentiles are over all calls.
    """
    began = time.perf_counter()
    for _ in range(MIN_SLOW_CALLS):  # warm-up: the first call allocates what later ones reuse
        call()
        if time.perf_counter() - began > seconds:
            break
    calm: list[float] = []
    every: list[float] = []
    spent = 0.0  # seconds in calm blocks
    began, whole = time.perf_counter(), CpuUsage()
    while True:
        before, block = CpuUsage(), []
        while not block or 1e-3 * sum(block) < BLOCK_SECONDS:
            start = time.perf_counter()
            call()
            block.append(1e3 * (time.perf_counter() - start))
        every += block
        if CpuUsage().waited_since(before, thread_count) <= MAX_WAITED_SHARE:
            calm += block
            spent += 1e-3 * sum(block)
        over = time.perf_counter() - began > MAX_STRETCH * seconds
        if (spent >= seconds and len(calm) >= MIN_CALLS) or (over and len(every) >= MIN_SLOW_CALLS):
            break
    is_enough = len(calm) >= MIN_SLOW_CALLS and (spent >= seconds / 4 or len(calm) >= 100)
    is_enough = is_enough and CpuUsage().had_by_others_since(whole) <= MAX_SHARE_OF_OTHERS
    p50, p95 = np.percentile(calm if is_enough else every, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "calm": is_enough}


class CpuUsage:
    """The CPU time that this process has used and waited for until now."""

    def __init__(self) -> None:
        self.queued, self.cores = queued_ns(), busy_cores()
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def waited_since(self, before: CpuUsage, thread_count: int) -> float:
        """Return the share of the time since ``before`` for which a thread of this process waited for a core.

        Linux counts it for every thread. On other systems it is the missing share of ``thread_count`` cores' time. That
        is right with one thread, and with several as long as OpenMP's threads spin while they wait for each other,
        their default.
        """
        wall = self.wall - before.wall
        if self.queued is None or before.queued is None:
            return max(0.0, 1 - (self.cpu - before.cpu) / (wall * thread_count))
        return max(ns - before.queued.get(thread, 0) for thread, ns in self.queued.items()) / 1e9 / wall

    def had_by_others_since(self, before: CpuUsage) -> float:
        """Return the share of our cores' time that other processes used since ``before``.

        Our cores are those that this process may use. 0 if the system does not count it, or too coarsely.
        """
        wall = self.wall - before.wall
        if self.cores is None or before.cores is None or wall < MIN_JUDGED_SECONDS:
            return 0.0
        busy, count = self.cores[0] - before.cores[0], self.cores[1]
        return max(0.0, busy - (self.cpu - before.cpu)) / (wall * count)


def queued_ns() -> dict[str, int] | None:
    """Return by thread the nanoseconds for which it was ready and had no core; None if the system does not count it."""
    waited = {}
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError, IndexError, ValueError):  # a thread that has just ended
                waited[thread] = int(Path(f"/proc/self/task/{thread}/schedstat").read_bytes().split()[1])
    return waited or None


def busy_cores() -> tuple[float, int] | None:
    """Return the busy seconds of the cores that this process may use, by any process, and the number of these cores."""
    with suppress(OSError, ValueError, AttributeError):
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
        rows = [list(map(int, line[1:9])) for line in lines if line[0] in own]
        if rows:  # user, nice, system, idle, iowait, irq, softirq, steal
            return sum(sum(row) - row[3] - row[4] for row in rows) / os.sysconf("SC_CLK_TCK"), len(rows)
    return None
