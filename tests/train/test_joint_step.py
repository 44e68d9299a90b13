"""One optimizer step for several students equals the steps of their own optimizers, to the bit."""

from __future__ import annotations

import pytest
import torch

from kd.train.joint_step import JointStep
from tests.train.test_together import CELLS, make, teacher  # noqa: F401  a fixture


@pytest.mark.parametrize(("optimizer", "joint"), [("adamw", 1), ("sgd", 1), ("adam", 1), ("lamb", 0)])
def test_a_joint_step_has_the_bits_and_the_state_of_separate_ones(dataset, machine, teacher, optimizer, joint):  # noqa: F811
    cells = [*CELLS, (3.0, 0.5, 0, {})]
    sets = [make(dataset, machine, cells, optimizer=optimizer) for _ in range(2)]
    alone, together = ([cell.training(teacher) for cell in own] for own in sets)
    step = JointStep(together)
    assert len(step.joint) == joint and len(step.alone) == (0 if joint else 4)
    for number in range(3):
        for one, other in zip(alone, together, strict=True):
            for training in (one, other):
                training.begin_step(0.2 + number / 10)
                batch = next(training.loader.epoch(number + 1))
                training.learn(batch, training.answer(batch), 0)
            one.optimizer.step()
        step.step()
    for one, other in zip(alone, together, strict=True):
        for p, q in zip(one.train_step.parameters(), other.train_step.parameters(), strict=True):
            assert torch.equal(p, q)
        states = one.optimizer.state_dict(), other.optimizer.state_dict()
        assert states[0]["param_groups"] == states[1]["param_groups"]
        assert states[0]["state"].keys() == states[1]["state"].keys() and states[0]["state"]
        for number, mine in states[0]["state"].items():
            theirs = states[1]["state"][number]
            assert mine.keys() == theirs.keys()
            kept = {name: torch.as_tensor(value) for name, value in mine.items() if value is not None}
            assert all(torch.equal(value, torch.as_tensor(theirs[name])) for name, value in kept.items())


def test_equal_settings_share_a_group(dataset, machine, teacher):  # noqa: F811
    cells = [cell.training(teacher) for cell in make(dataset, machine, [(float(t), 0.5, 0, {}) for t in range(1, 6)])]
    groups = JointStep(cells).joint[0].optimizer.param_groups
    assert len(groups) == len(cells[0].optimizer.param_groups)
    assert sum(len(group["params"]) for group in groups) == 5 * len(list(cells[0].train_step.parameters()))
