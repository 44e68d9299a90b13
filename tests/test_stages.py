"""Weights from elsewhere: what is taken, under which names, and what is refused."""

from __future__ import annotations

import os

import pytest
import safetensors.torch
import torch
from hydra.utils import instantiate

from kd.models.normalized import Normalized
from kd.stages import take
from tests.conftest import compose
from tests.test_run import run

CLASSES, SIZE = 6, 16


def network(seed: int = 0) -> Normalized:
    torch.manual_seed(seed)
    made = instantiate(compose("student=resnet8").student, num_classes=CLASSES, image_size=SIZE)
    return Normalized(made, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).eval()


def bare(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in network(1).network.state_dict().items()}


WRITTEN = {
    "plain.pt": lambda path: torch.save(bare(), path),
    "parallel.pth": lambda path: torch.save({"epoch": 240, "model": bare("module."), "best_acc": 72.5}, path),
    "lightning.ckpt": lambda path: torch.save({"state_dict": bare()}, path),
    "ours.safetensors": lambda path: safetensors.torch.save_file(network(1).state_dict(), path),
    "bare.safetensors": lambda path: safetensors.torch.save_file(bare(), path),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_weights_are_taken_under_the_names_that_trainers_give_them(tmp_path, name):
    WRITTEN[name](tmp_path / name)
    taken, image = network(), torch.rand(2, 3, SIZE, SIZE)
    take(taken, tmp_path / name)
    assert torch.equal(taken(image), network(1)(image))


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


REFUSED = {
    "pickle.pt": (lambda path: torch.save({"model": Harm()}, path), "not a readable .safetensors or weights-only"),
    "text.pt": (lambda path: path.write_text("weights"), "not a readable"),
    "text.safetensors": (lambda path: path.write_text("weights"), "not a readable"),
    "list.pt": (lambda path: torch.save([torch.ones(2)], path), "holds no state dict"),
    "unnamed.pt": (lambda path: torch.save({0: torch.ones(2)}, path), "holds no state dict"),
    "number.pt": (lambda path: torch.save({"lr": 0.1}, path), "holds no state dict"),
    "other.pt": (lambda path: torch.save({"fc.weight": torch.ones(2)}, path), "another network: .* is missing"),
    "shape.pt": (
        lambda path: torch.save(bare() | {"fc.weight": torch.ones(10, 64)}, path),
        r"fc.weight is \(10, 64\) and should be \(6, 64\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_network_is_refused_and_never_executed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, says = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=says):
        take(network(), tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_brings_the_statistics_that_it_was_trained_with(tmp_path):
    torch.save(bare(), tmp_path / "teacher.pt")
    how = ["teacher=resnet8", f"teacher.checkpoint={tmp_path / 'teacher.pt'}", "report=false", "baseline=false"]
    _, data = run(tmp_path / "a", *how)
    _, own = run(tmp_path / "a", *how, "teacher.mean=[0,0,0]", "teacher.std=[1,1,1]")
    assert data["teacher"]["nll"] != own["teacher"]["nll"], "other statistics are another teacher"
    safetensors.torch.save_file(network(1).state_dict(), tmp_path / "ours.safetensors")
    how[1] = f"teacher.checkpoint={tmp_path / 'ours.safetensors'}"
    _, said = run(tmp_path / "a", *how, "teacher.mean=[0,0,0]", "teacher.std=[1,1,1]")
    assert said["teacher"]["nll"] == own["teacher"]["nll"], "what is said counts more than what a file brings"
    for wrong in (
        "teacher.mean=[0,0,0]",
        "teacher.std=[1,1,0] teacher.mean=[0,0,0]",
        "teacher.std=[1] teacher.mean=[0]",
    ):
        with pytest.raises(ValueError, match="mean and std must be three numbers each"):
            run(tmp_path / "a", *how, *wrong.split())
