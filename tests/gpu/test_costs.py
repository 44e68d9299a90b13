"""What a device costs: latencies, memory, and a small bench that prints its numbers and asserts none."""

from __future__ import annotations

import time

import pytest
import torch

from kd.attention.attach import attach
from kd.attention.vea import VisionEagle
from kd.evaluation.cost import costs, macs
from kd.interfaces import Batch
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.backbone import build
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.runtime.memory import OutOfMemory, explain_out_of_memory, is_out_of_memory, smaller_training
from kd.teachers.live import LiveTeacher
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from kd.train.step import TrainStep

SIDE = 48


def eagle() -> Normalized:
    return Normalized(attach(build("resnet18", 6, SIDE), VisionEagle, [0, 1, 2]), [0.5] * 3, [0.3] * 3)


def tiny() -> Normalized:
    return Normalized(TinyCNN(6, SIDE), [0.5] * 3, [0.3] * 3)


@pytest.mark.parametrize("made", [tiny, eagle], ids=["student", "teacher"])
def test_costs_are_measured_and_counted_as_on_a_cpu(made, device, on_gpu):
    network, mode = device.to_device(made()), torch.get_deterministic_debug_mode()
    expected = macs(made(), SIDE)
    found = costs(network, SIDE, device, batch=16, seconds=0.05)
    assert found["macs"] == expected, "operations that stand for others on a GPU do not count"
    for times in found["latency_ms"].values():
        assert 0 < times["p50"] <= times["p95"]
    assert (found["one_thread"] is None) == on_gpu and found["throughput"] > 0
    assert torch.get_deterministic_debug_mode() == mode
    assert next(network.parameters()).device.type == device.device.type


def test_too_much_is_explained(device):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=device.device)
    assert is_out_of_memory(caught.value)
    with (
        pytest.raises(OutOfMemory, match="does not fit in memory.*\nUse train.batch_size=32"),
        explain_out_of_memory("student", **smaller_training(64, 1)),
    ):
        torch.empty(2**50, dtype=torch.uint8, device=device.device)


@pytest.mark.parametrize("batch", [64, 1024])
def test_a_small_bench(batch, device, on_gpu, capsys):
    """Milliseconds a step on images of the device: the student with cached and with live logits, and the teacher."""
    place, count = device.device, 20 if on_gpu else 2
    batch = batch if on_gpu else 8
    where = Batch(*(torch.rand(batch, 3, SIDE, SIDE, device=place), *(torch.arange(batch, device=place) % 6,) * 2))
    teacher = LiveTeacher(eagle(), device, frozenset({"logits"}))
    cached = teacher(where).to_float32(frozenset())
    labels = Objective({"hard": CrossEntropy()}, {"hard": 1.0})
    soft = Objective({"hard": CrossEntropy(), "soft": Hinton(4.0)}, {"hard": 0.1, "soft": 0.9})
    jobs = {
        "student, cached": (tiny, soft, lambda: cached),
        "student, live": (tiny, soft, lambda: teacher(where).to_float32(frozenset())),
        "teacher": (eagle, labels, lambda: None),
    }
    lines = []
    for name, (made, objective, answer) in jobs.items():
        step = TrainStep(device.to_device(made()).train(), objective.to(place), device, compile=False)
        optimizer = Recipe(2).optimizer_of(step)

        def take(step=step, optimizer=optimizer, answer=answer) -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss, numbers = step(where, answer())
            loss.backward()
            optimizer.step()
            return numbers

        for _ in range(3 if on_gpu else 1):
            numbers = take()
        device.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            numbers = take()
        device.synchronize()
        ms = 1e3 * (time.perf_counter() - began) / count
        used = f", {torch.cuda.max_memory_allocated(place) / 2**20:.0f} MB at most" if on_gpu else ""
        lines.append(f"{name}, batch {batch}: {ms:.2f} ms a step, {1e3 * batch / ms:.0f} images/s{used}")
        assert numbers.isfinite().all()
    with capsys.disabled():
        print("", device, *lines, sep="\n")
