"""Random bits are the same on every device, and are drawn where integers can be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.methods.mgd import random_keep
from kd.runtime.rng import counter_device, random_bits
from tests.fake_device import FakeDevice
from tests.methods.test_contract import Lesson

MASK = 2**64 - 1


def mixed(x: int) -> int:
    """The finaliser of splitmix64, on Python's integers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) & MASK
    return x ^ (x >> 31)


def test_bits_are_those_of_integers_without_a_bound():
    golden = 0x9E3779B97F4A7C15
    seed, epoch, index = 2**61 + 5, 3, [0, 7, 2**40]
    key = mixed(mixed((seed * golden + 1) & MASK) ^ (epoch * golden + 2) & MASK)
    expected = [[mixed((mixed(key ^ (i * golden + 3) & MASK) + n * golden) & MASK) for n in (1, 2)] for i in index]
    found = random_bits(seed, epoch, torch.tensor(index), 2).numpy().view(np.uint64)
    assert found.tolist() == expected


def test_mps_draws_on_the_cpu_and_other_devices_where_they_are():
    assert counter_device(torch.device("mps")).type == "cpu"
    for name in ("cpu", "cuda", "cuda:1", "meta"):
        assert counter_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize("apart", [True, False], ids=["as on MPS", "as on CUDA"])
@pytest.mark.parametrize("method", ["mgd", "crd"])
def test_no_long_number_is_shifted_where_that_may_be_wrong(method, apart, monkeypatch):
    """A fake device stands for MPS, which torch's fake tensors do not have."""
    if apart:
        monkeypatch.setattr(f"kd.methods.{method}.counter_device", lambda device: torch.device("cpu"))
    there, lesson = FakeDevice("meta"), Lesson(method)
    term = there.prepare(lambda: lesson.objective.to("meta")).terms[method]
    batch = lesson.batch._replace(target=torch.zeros(12, dtype=torch.int64))

    def drawn() -> None:
        index, target = (torch.zeros(12, dtype=torch.int64, device="meta") for _ in range(2))
        where = batch._replace(index=index, target=target)
        maps = torch.rand(12, 3, 4, 4, device="meta")
        made = term.rows(where) if method == "crd" else random_keep(maps, 0.5, "places", term.seed, 1, index)
        assert made.device.type == "meta"

    watch = there.run(drawn)
    assert bool(watch.shifts) is not apart
    assert bool(watch.found) is apart, "only there does the host wait"
