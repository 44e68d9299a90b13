"""Whole runs of methods that read the training images before they train, or deploy another network than they train."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import kd
from kd.data.loader import Loader
from kd.evaluation.predict import outputs_over
from kd.interfaces import extract_outputs
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.pipeline import distill
from tests.conftest import weights_in
from tests.pipeline.test_run import run
from tests.views import AUGMENT

QUICK = ["teacher=tiny_cnn", "teacher.width=0.5", "report=false"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("passes")


@pytest.fixture
def network(dataset):
    torch.manual_seed(0)
    return Normalized(TinyCNN(6, 16, width=0.5, dropout=0.5), dataset.mean, dataset.std)


def test_a_pass_shows_every_training_image_once_in_order_without_augmentation(dataset, machine, network):
    loader = Loader(dataset, 32, 0, machine.device, augment=AUGMENT, grad_accum_steps=4)
    network.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    parts = list(outputs_over(network, {"embedding"}, loader, dataset.train, machine))
    assert torch.equal(torch.rand(1), expected)  # the pass drew nothing
    index = torch.cat([batch.index for _, batch in parts])
    assert index.tolist() == dataset.train.tolist()
    assert torch.cat([batch.target for _, batch in parts]).tolist() == dataset.targets[dataset.train].tolist()
    assert max(len(batch.index) for _, batch in parts) == 32  # 128 images in four parts
    assert network.training and all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    network.eval()
    for outputs, batch in parts:
        whole = extract_outputs(network, batch.image, {"embedding"})
        assert torch.equal(outputs.embedding, whole.embedding) and outputs.features == ()
        assert not outputs.logits.requires_grad and outputs.logits.dtype == torch.float32
    assert torch.is_grad_enabled()


def test_a_method_reads_all_training_images_once_and_few_where_it_is_tried(store, monkeypatch):
    shown = []

    def watched(network, needs, loader, positions, *more):
        shown.append(len(positions))
        return outputs_over(network, needs, loader, positions, *more)

    monkeypatch.setattr(distill, "outputs_over", watched)
    folder, result = run(store, *QUICK, "kd=nd", kd="nd")
    assert shown == [distill.FEW, result["data"]["train"]]
    shown.clear()
    again, _ = run(store, *QUICK, "kd=nd", "latency.batch=2", kd="nd")  # finds the trained student
    assert shown == [distill.FEW] and again != folder
    assert weights_in(again / "student.safetensors") == weights_in(folder / "student.safetensors")


def test_the_student_of_norm_ships_with_the_parameters_of_its_baseline(store):
    folder, result = run(store, *QUICK, "kd=norm", kd="norm")
    assert result["student"]["params"] == result["baseline"]["params"]
    described = json.loads((folder / "models.json").read_text(encoding="utf-8"))["student"]
    assert "extended_by" not in described["network"]
    with np.load(folder / "predictions.npz") as found:
        logits = found["student"]
    assert logits.shape[1] == 6 and kd.load(folder / "student.safetensors") is not None
    again, reused = run(store, *QUICK, "kd=norm", "latency.batch=2", kd="norm")
    assert again != folder and reused["student"]["training"]["found"]
    with np.load(again / "predictions.npz") as found:
        assert np.array_equal(found["student"], logits)
    assert reused["student"]["params"] == result["student"]["params"]


def test_a_student_without_a_teacher_trains_on_its_own_maps(store):
    _, result = run(store, *QUICK, "kd=uskd", kd="uskd")
    assert result["student"]["training"]["epochs"] >= 1 and 0 <= result["student"]["accuracy"] <= 1
