"""A compiled step: one graph, the same numbers, and nothing is compiled again from step to step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import kd.train.step
from kd.build import build_objective
from kd.interfaces import Batch, Context, extract_outputs
from kd.models.tiny_cnn import TinyCNN
from kd.train.step import TrainStep, run_step
from tests.methods.test_contract import chosen, see


def prepared(method: str):
    """Return network, objective and teacher of a method."""
    torch.manual_seed(0)
    objective, student, teacher = build_objective(chosen(method)), TinyCNN(6, 16, width=0.25), TinyCNN(6, 16).eval()
    targets = torch.arange(96) % 6
    make = lambda number: TinyCNN(6, 16, width=0.25)  # noqa: E731
    network = objective.bind(Context(student, teacher, make, see, targets, torch.arange(96), 16))
    image = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        reads = ((copy.deepcopy(network), objective.student_needs), (teacher, objective.needs))
        shown = [extract_outputs(model, image, needs) for model, needs in reads]
    objective.setup(*shown)
    return network, objective, teacher


@pytest.mark.parametrize(
    ("method", "graphs"), [("hinton", 1), ("ctkd", 2), ("mgd", 2), ("wkd_features", 3)]
)  # progress, epoch: any number
def test_the_whole_step_is_compiled_once(method, graphs, machine, monkeypatch):
    torch._dynamo.reset()
    counter, compiled = CompileCounterWithBackend("aot_eager"), torch.compile
    # without the last part of the compiler, which makes C++ for half a minute
    monkeypatch.setattr(kd.train.step.torch, "compile", lambda step, mode: compiled(step, backend=counter))
    network, objective, teacher = prepared(method)
    step = TrainStep(network, objective, machine, compile=True)
    plain = copy.deepcopy((network, objective))
    assert step.run is not run_step
    for number in range(8):
        epoch, index = 1 + number // 3, torch.arange(32) + 8 * number
        batch = Batch(torch.rand(32, 3, 16, 16), index % 6, index, epoch, (number + 0.5) / 8)
        with torch.no_grad():
            answer = extract_outputs(teacher, batch.image, objective.needs)
        loss, numbers = step(batch, answer)
        loss.backward()
        expected, _ = run_step(*plain, objective.needs, machine, batch, answer)
        expected.backward()
        torch.testing.assert_close(loss, expected)
        assert torch.isfinite(numbers).all()
    for one, two in zip(network.parameters(), plain[0].parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)
    assert counter.frame_count <= graphs
    torch._dynamo.reset()
