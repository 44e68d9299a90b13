"""Where the time goes: the parts add up, and the stopwatches leave nothing behind."""

from __future__ import annotations

import time

import pytest
import torch
from torch.optim import optimizer
from torch.utils.data import dataloader

from kd.bench.jobs import JOBS
from kd.bench.parts import PARTS, Parts
from tests.bench.test_jobs import EACH


@pytest.mark.parametrize("name", [each for each in EACH if "one_pass" not in str(each)])
def test_every_part_of_a_job_takes_time(name, setup, plain):
    job = JOBS[name.values[0] if hasattr(name, "values") else name](setup, plain)
    before = torch.Tensor.backward, dataloader._BaseDataLoaderIter.__next__, len(optimizer._global_optimizer_pre_hooks)
    job.prepare()
    began = time.perf_counter()
    parts = job.seconds_by_part()
    whole = time.perf_counter() - began
    assert tuple(parts) == PARTS
    assert sum(parts.values()) <= whole
    assert all(seconds > 0 for part, seconds in parts.items() if part != "teacher")
    assert (parts["teacher"] > 0) == job.uses_teacher
    after = torch.Tensor.backward, dataloader._BaseDataLoaderIter.__next__, len(optimizer._global_optimizer_pre_hooks)
    assert after == before


def test_time_counts_once():
    waits = []
    parts = Parts(lambda: waits.append(1))

    def inner():
        time.sleep(0.02)

    def outer():
        time.sleep(0.01)
        parts.timed("teacher", inner)()

    with parts.running():
        began = time.perf_counter()
        parts.timed("data", outer)()
        parts.timed("validation", outer)()
        whole = time.perf_counter() - began
    seconds = parts.seconds
    assert seconds["teacher"] >= 0.02 and seconds["data"] >= 0.01
    assert seconds["validation"] >= 0.03  # all of it, the teacher within too
    assert sum(seconds.values()) == pytest.approx(whole, abs=0.01)
    assert waits  # a device is waited for before a clock is read


def test_an_iterator_is_timed_until_its_end():
    parts = Parts(lambda: None)

    def numbers():
        for number in range(3):
            time.sleep(0.01)
            yield number

    assert list(parts.iterated("data", numbers)()) == [0, 1, 2]
    assert list(parts.whole("validation", numbers)()) == [0, 1, 2]
    assert parts.seconds["data"] >= 0.03 and parts.seconds["validation"] >= 0.03
