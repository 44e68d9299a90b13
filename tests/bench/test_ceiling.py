"""The machine's ceiling: counted layers, and floors that can be checked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.bench import ceiling
from kd.bench.ceiling import Layer, Rates, floor_seconds, layers, measure_rates
from kd.evaluation.cost import macs
from kd.runtime.device import Device


def test_the_layers_have_the_macs_of_the_report(setup):
    for network in (setup.teacher, setup.student):
        found = layers(network, 32, 8)
        assert sum(layer.flops for layer in found) == 2 * 8 * macs(network, 32)
        assert next(network.parameters()).device.type == "cpu"


def test_a_layer_reads_its_inputs_and_writes_its_outputs():
    (only,) = layers(nn.Conv2d(3, 4, 1, bias=False), 5, 2)
    assert only.flops == 2 * 2 * 25 * 3 * 4
    assert only.numbers == 2 * 3 * 25 + 3 * 4 + 2 * 4 * 25


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    of = [Layer(flops=100, numbers=1), Layer(flops=1, numbers=100)]
    forward, step = floor_seconds(of, Rates(flops_per_s=10.0, bytes_per_s=40.0), bytes_a_number=4)
    assert forward == pytest.approx(100 / 10 + 100 * 4 / 40)
    assert step == pytest.approx(3 * 20 - 10)  # the first layer needs no gradient of its input
    assert floor_seconds([], Rates(1.0, 1.0), 4) == (0.0, 0.0)


def test_both_rates_are_measured(monkeypatch):
    monkeypatch.setattr(ceiling, "SECONDS", 0.01)
    monkeypatch.setattr(ceiling, "COPY_BYTES", 2**22)
    for precision in (torch.float32, torch.bfloat16):
        rates = measure_rates(Device(torch.device("cpu"), precision, True))
        assert rates.flops_per_s > 1e6 and rates.bytes_per_s > 1e6
