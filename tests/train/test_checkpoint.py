"""Checkpoints: damaged ones are skipped, none is executed, and a full disk takes none away."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from kd.runtime.rng import random_states, restore_random_states
from kd.train.checkpoint import CheckpointFolder

CPU = torch.device("cpu")


def state(number: float) -> dict:
    weights = {"w": torch.full((200, 50), float(number)), "n": torch.tensor(3)}
    return {"learned": weights, "rows": [{"loss": number}], "each": [{"random": random_states(CPU)}], "none": None}


@pytest.fixture
def checkpoints(tmp_path) -> CheckpointFolder:
    kept = CheckpointFolder(tmp_path / "students-abc")
    for number in (1, 2, 3):
        kept.write(number, state(number))
    return kept


def number_of(checkpoints: CheckpointFolder) -> float | None:
    latest = checkpoints.latest()
    return latest and checkpoints.read(latest)["rows"][0]["loss"]


def test_the_last_two_are_kept_and_the_latest_is_read(checkpoints):
    assert [path.name[:9] for path in sorted(checkpoints.folder.iterdir())] == ["000000002", "000000003"]
    found = checkpoints.read(checkpoints.latest())
    assert torch.equal(found["learned"]["w"], torch.full((200, 50), 3.0)) and found["none"] is None


@pytest.mark.parametrize("damage", ["cut", "a bit", "empty", "half-written"])
def test_a_damaged_one_is_skipped_with_a_message(checkpoints, capsys, damage):
    latest = checkpoints.latest()
    whole = latest.read_bytes()
    if damage == "half-written":
        (checkpoints.folder / ".4711").write_bytes(whole[:1000])  # what a killed write leaves
        assert number_of(checkpoints) == 3 and not list(checkpoints.folder.glob(".*"))
        return
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    latest.write_bytes({"cut": whole[:-1], "a bit": bytes(flipped), "empty": b""}[damage])
    assert number_of(checkpoints) == 2
    assert f"checkpoint {latest.name} is damaged and was skipped" in capsys.readouterr().out
    checkpoints.write(3, state(3))
    assert number_of(checkpoints) == 3


def test_without_any_there_is_none(tmp_path):
    assert CheckpointFolder(tmp_path / "nowhere").latest() is None


class Planted:
    def __reduce__(self):
        return (open, (str(Planted.target), "w"))


def test_a_planted_file_is_not_executed(checkpoints, tmp_path, capsys):
    Planted.target = tmp_path / "executed"
    import hashlib

    data = pickle.dumps(Planted())
    path = checkpoints.folder / f"000000009-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    path.write_bytes(data)
    assert checkpoints.latest() == path and checkpoints.read(path) is None
    assert not Planted.target.exists() and "cannot be read" in capsys.readouterr().out


FULL = """
import resource, sys, torch
from pathlib import Path
from kd.train.checkpoint import CheckpointFolder
kept = CheckpointFolder(Path(sys.argv[1]))
kept.write(1, {"w": torch.ones(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    kept.write(2, {"w": torch.ones(100_000)})
except OSError as error:
    print(error.errno, len(list(kept.folder.iterdir())), kept.read(kept.latest())["w"].sum().item())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_an_oserror_and_removes_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "c")], capture_output=True, text=True)
    assert done.stdout.split() == ["27", "1", "1000.0"], done.stdout + done.stderr


def test_every_generator_is_restored():
    def draw() -> tuple:
        return (
            torch.rand(3).tolist(),
            np.random.rand(3).tolist(),
            random.random(),
            np.random.randn(),
            random.gauss(0, 1),
        )

    np.random.randn()  # keeps half of a pair for the next call
    states = random_states(CPU)
    first = draw()
    assert draw() != first
    restore_random_states(states, CPU)
    assert draw() == first
