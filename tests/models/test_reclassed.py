"""A teacher with other classes than the data's."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from kd.build import normalized
from kd.interfaces import extract_outputs
from kd.models.tiny_cnn import TinyCNN
from kd.models.weights import load_external

NAMES = ["sea", "tower", "forest", "street", "hill"]
CLASSES = ["forest", "sea", "street"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return path


def made(file, seed: int = 0):
    torch.manual_seed(seed)
    spec = {"classes": str(file), "network": {}}
    return normalized(TinyCNN(len(NAMES), 16, width=0.25), spec, [0.5] * 3, [0.25] * 3, CLASSES).eval()


def test_the_logits_are_those_of_the_datas_classes_in_their_order(file):
    network, image = made(file), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        every = network.network((image - network.mean) / network.std)
        shown = extract_outputs(network, image, frozenset({"logits", "embedding", "class_maps"}))
        assert torch.equal(network(image), every[:, [2, 0, 3]]) and torch.equal(shown.logits, network(image))
    assert shown.class_maps.shape[1] == 3 and shown.embedding.shape == (2, 32)


def test_a_checkpoint_of_all_classes_loads_and_another_one_is_refused(file, tmp_path):
    torch.manual_seed(1)
    bare = TinyCNN(len(NAMES), 16, width=0.25)
    safetensors.torch.save_file(bare.state_dict(), tmp_path / "good.safetensors")
    network = made(file)
    load_external(network, tmp_path / "good.safetensors", has_statistics=True)
    assert torch.equal(network.network.classifier.weight, bare.classifier.weight)
    safetensors.torch.save_file(TinyCNN(4, 16, width=0.25).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="its classifier has 4 classes, teacher.classes names 5"):
        load_external(made(file), tmp_path / "other.safetensors")


def test_a_checkpoint_with_more_classes_is_refused_with_the_way_out(tmp_path):
    safetensors.torch.save_file(TinyCNN(5, 16, width=0.25).state_dict(), tmp_path / "five.safetensors")
    network = normalized(TinyCNN(3, 16, width=0.25), {}, [0.5] * 3, [0.25] * 3, CLASSES)
    with pytest.raises(ValueError, match=r"has 5 classes, the data has 3 (?s:.*)teacher\.classes=FILE"):
        load_external(network, tmp_path / "five.safetensors")
