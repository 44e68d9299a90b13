"""Which format trains faster: tried on a CPU, known by generation on a GPU."""

import pytest
import torch

from kd.runtime import precision
from kd.runtime.precision import prefers_bfloat16, trial_seconds


def test_the_trial_times_both_formats_and_leaves_threads_and_gradients_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        float32, bfloat16 = trial_seconds()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert 0 < float32 < 10 and 0 < bfloat16 < 10


@pytest.mark.parametrize(("seconds", "preferred"), [((1.0, 0.5), True), ((1.0, 0.95), False), ((0.5, 1.0), False)])
def test_bfloat16_must_be_clearly_faster(monkeypatch, seconds, preferred):
    monkeypatch.setattr(precision, "trial_seconds", lambda: seconds)
    assert prefers_bfloat16(torch.device("cpu")) is preferred


@pytest.mark.parametrize(("capability", "preferred"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_from_ampere_on(monkeypatch, capability, preferred):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert prefers_bfloat16(torch.device("cuda")) is preferred


def test_other_devices_train_in_float32():
    assert not prefers_bfloat16(torch.device("mps"))
