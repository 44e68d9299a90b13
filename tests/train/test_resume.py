"""When a checkpoint is written at an epoch's end, and what an interruption does where none was."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from kd.runtime.distributed import SINGLE_PROCESS
from kd.train.checkpoint import CheckpointFolder
from kd.train.resume import CheckpointManager
from kd.train.state import TrainState

STEPS = 2


class Slow(CheckpointFolder):
    """A folder on a slow disk."""

    seconds = 0.0

    def write(self, position, state):
        time.sleep(self.seconds)
        return super().write(position, state)


@pytest.fixture
def manager(tmp_path) -> CheckpointManager:
    learned = nn.Linear(2, 3)
    state = TrainState(learned, torch.optim.AdamW(learned.parameters()), None, SINGLE_PROCESS)
    return CheckpointManager(state, Slow(tmp_path / "students-one"), "student", STEPS, time.perf_counter())


def train_epoch(manager: CheckpointManager) -> None:
    for _ in range(STEPS):
        manager.on_step_start()
        manager.state.record_step(0.1, torch.zeros(1), new=True)
        manager.on_step_end()
    manager.on_epoch_end({"epoch": manager.state.epoch})


def places(manager: CheckpointManager) -> list[int]:
    return sorted(int(path.name[:9]) for path in manager.checkpoints.folder.glob("*.pt"))


def test_the_first_epoch_ends_with_a_checkpoint_and_the_next_when_it_is_worth_its_time(manager):
    manager.checkpoints.seconds = 0.05  # worth a second of training
    train_epoch(manager)
    train_epoch(manager)
    assert places(manager) == [3], "the second epoch took no time"
    manager.written -= 21 * manager.took
    train_epoch(manager)
    assert places(manager) == [3, 9]


def test_each_epoch_ends_with_one_where_they_are_due_more_often(manager):
    manager.checkpoints.seconds, manager.checkpoints.minutes = 0.05, 0.0
    for _ in range(2):
        train_epoch(manager)
    assert places(manager) == [5, 6], "after each step and each epoch; the last two are kept"


def test_an_interruption_writes_what_the_epoch_did_not(manager):
    manager.checkpoints.seconds = 0.05
    with pytest.raises(KeyboardInterrupt), manager.stop_on_interrupt():
        train_epoch(manager)
        train_epoch(manager)
        raise KeyboardInterrupt
    assert places(manager) == [3, 6]
    saved = manager.checkpoints.read(manager.checkpoints.latest())
    assert (saved["epoch"], saved["step"], len(saved["rows"])) == (3, 0, 2)
