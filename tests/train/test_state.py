"""A training resumes from the latest checkpoint that matches it; the others are kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import kd.train.state
from kd.runtime.distributed import SINGLE_PROCESS
from kd.train.checkpoint import CheckpointFolder
from kd.train.resume import CheckpointManager
from kd.train.state import TrainState

STEPS = 4


def new_state(width: int = 3) -> TrainState:
    learned = nn.Linear(2, width)
    return TrainState(learned, torch.optim.AdamW(learned.parameters()), None, SINGLE_PROCESS)


def walk(manager: CheckpointManager, steps: int) -> None:
    """Train ``steps`` steps, with a checkpoint after each."""
    for _ in range(steps):
        manager.on_step_start()
        loss = manager.state.learned(torch.ones(1, 2)).sum()
        loss.backward()
        manager.state.optimizer.step()
        manager.state.record_step(0.1, loss.detach().reshape(1), new=True)
        manager.on_step_end()


def kept(folder, width: int = 3, minutes: float = 0.0) -> CheckpointManager:
    return CheckpointManager(
        new_state(width), CheckpointFolder(folder / "teachers-one", minutes), "teacher", STEPS, 0.0
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with checkpoints of steps 2 and 3."""
    walk(kept(tmp_path), 3)
    return tmp_path


def places(folder) -> list[int]:
    return sorted(int(path.name[:9]) for path in (folder / "teachers-one").glob("*.pt"))


def test_it_resumes_from_the_latest(folder):
    manager = kept(folder)
    manager.resume(0)
    assert (manager.state.step, len(manager.state.rates), places(folder)) == (3, 3, [2, 3])


def test_an_interruption_before_the_first_step_leaves_both_checkpoints(folder):
    manager = kept(folder)
    manager.resume(0)
    with pytest.raises(KeyboardInterrupt), manager.stop_on_interrupt():
        raise KeyboardInterrupt
    assert places(folder) == [2, 3]


@pytest.mark.parametrize("other", ["width", "format", "no checkpoint of ours"])
def test_what_is_of_another_training_is_set_aside_and_not_lost(folder, capsys, monkeypatch, other):
    before = {path.name for path in (folder / "teachers-one").iterdir()}
    if other == "format":
        monkeypatch.setattr(kd.train.state, "FORMAT", kd.train.state.FORMAT + 1)
    if other == "no checkpoint of ours":
        for path in (folder / "teachers-one").iterdir():
            path.unlink()
        before = {CheckpointFolder(folder / "teachers-one").write(5, [1, 2]).name}
    manager = kept(folder, width=4 if other == "width" else 3)
    manager.resume(0)
    printed = capsys.readouterr().out
    assert manager.state.step == 0 and "teacher: starting over" in printed and all(name in printed for name in before)
    assert {path.name for path in (folder / "teachers-one" / "older").iterdir()} == before
    walk(manager, 2)
    again = kept(folder, width=4 if other == "width" else 3)
    again.resume(0)
    assert again.state.step == 2, "the archived checkpoints do not count"


def test_the_one_before_is_used_if_the_latest_is_of_another_training(folder, capsys):
    CheckpointFolder(folder / "teachers-one").write(7, {"format": -1})
    manager = kept(folder)
    manager.resume(0)
    assert manager.state.step == 3 and "teacher: resuming from epoch 1, step 3" in capsys.readouterr().out


@pytest.mark.parametrize("trouble", [OSError(5, "Input/output error"), MemoryError(), RuntimeError("out of memory")])
def test_a_disk_or_a_memory_that_fails_takes_no_checkpoint_away(folder, monkeypatch, trouble):
    def load(*_, **__):
        raise trouble

    before = places(folder)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(trouble)):
        kept(folder).resume(0)
    assert places(folder) == before
