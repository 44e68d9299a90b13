"""Costs are those of the deployed network."""

from __future__ import annotations

import copy
import os

import pytest
import safetensors.torch
import torch

from kd.attention.attach import attach
from kd.attention.vea import VisionEagle
from kd.evaluation import cost
from kd.evaluation.cost import cached_costs, costs, macs, size_mb, state_of
from kd.models.backbone import build
from kd.models.tiny_cnn import TinyCNN
from kd.records.run_folder import is_calm
from kd.store.store import Store


def test_macs_are_those_counted_by_hand():
    by_hand = sum(i * o * 9 * s**2 for i, o, s in [(3, 32, 48), (32, 64, 24), (64, 128, 12)]) + 128 * 6
    assert macs(TinyCNN(6, 48), 48) == by_hand
    assert macs(build("resnet18", 1000, 224), 224) == 1_814_073_344  # torchvision states 1.81 G


def test_macs_do_not_depend_on_the_device():
    """Off the CPU Vision Eagle's resize is two matrix products, which no deployed network has."""
    network = attach(build("resnet10t", 6, 32), VisionEagle, [1], None)
    assert macs(network, 32) == macs(copy.deepcopy(network).to("meta"), 32)


def test_size_is_that_of_the_file(tmp_path):
    network = TinyCNN(6, 48)
    safetensors.torch.save_file(state_of(network), tmp_path / "student.safetensors")
    assert size_mb(network) == os.path.getsize(tmp_path / "student.safetensors") / 2**20


def test_costs_have_every_name_of_the_public_interface(machine):
    network = attach(build("resnet18", 6, 32, stem="large"), VisionEagle, [0, 1, 2])
    found = costs(network, 32, machine, published_extra=11_519_440, batch=64, seconds=0.1)
    assert (found["params"], found["params_published"]) == (12_306_057, 23_825_497)
    assert set(found["latency_ms"]) == {"batch_1", "batch_64"}
    assert all(0 < times["p50"] <= times["p95"] for times in found["latency_ms"].values())
    assert found["throughput"] > 0 and not network.training


def test_counting_leaves_the_network_as_it_was():
    network = TinyCNN(6, 16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    macs(network, 16)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture
def measure(machine, tmp_path, monkeypatch):
    """Return a function that measures the costs of one network, on a busy machine or on a calm one."""
    store, network = Store(tmp_path), TinyCNN(6, 16, width=0.25)
    monkeypatch.setattr("kd.evaluation.cost._busy", {})

    def measured(busy: bool) -> dict:
        monkeypatch.setattr("kd.evaluation.latency.MAX_WAITED_SHARE", -1.0 if busy else 1e9)
        monkeypatch.setattr("kd.evaluation.latency.MAX_SHARE_OF_OTHERS", 1e9)
        return cached_costs(store, {"network": "tiny"}, network, 16, machine, batch=2, seconds=0.01)

    return measured


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "calm"])
def test_what_was_timed_on_a_busy_machine_is_not_kept_and_nothing_half_made_stays(measure, tmp_path, busy):
    measure(busy=False)
    (kept,) = (tmp_path / "costs").iterdir()
    kept.rename(kept.with_name(f".{kept.name}.4711-abcd"))  # as after a kill at the last moment
    assert is_calm(measure(busy)) is not busy
    assert [path.name for path in (tmp_path / "costs").iterdir()] == ([] if busy else [kept.name])


def test_it_is_timed_again_on_the_next_occasion_but_not_at_once(measure, monkeypatch):
    late = measure(busy=True)
    assert measure(busy=False) is late, "the next cell of a sweep, a moment later"
    monkeypatch.setattr("kd.evaluation.cost.RETRY_AFTER", 0.0)
    assert is_calm(measure(busy=False)) and is_calm(measure(busy=True)), "and then it is cached"


def test_what_an_older_version_measured_is_not_trusted(measure, monkeypatch):
    measure(busy=False)
    monkeypatch.setattr("kd.evaluation.cost.VERSION", cost.VERSION + 1)
    assert not is_calm(measure(busy=True)), "the cached result was used"
