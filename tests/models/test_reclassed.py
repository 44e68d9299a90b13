"""A teacher with other classes than the data's."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from kd.build import normalized
from kd.evaluation.cost import macs
from kd.interfaces import extract_outputs
from kd.models.tiny_cnn import TinyCNN
from kd.models.weights import load_external
from tests.conftest import TINY, compose
from tests.pipeline.test_run import run

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


SCENES = ["mountain", "street", "desert", "forest", "sea", "buildings", "glacier", "swamp"]  # two more than the data's


def test_a_run_takes_a_checkpoint_of_more_classes_at_its_own_size(tmp_path):
    """The same predictions as those of a network whose classifier has the rows of the data's classes."""
    from kd.data.datasets.scenes.classes import CLASSES as OURS

    torch.manual_seed(1)
    state = TinyCNN(len(SCENES), 24, width=0.5).state_dict()
    rows = [SCENES.index(name) for name in OURS]
    few = {name: value[rows] if name.startswith("classifier") else value for name, value in state.items()}
    for name, tensors in (("every", state), ("few", few)):
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors")
    (tmp_path / "classes.txt").write_text("\n".join(SCENES), encoding="utf-8")
    settings = ["teacher=tiny_cnn", "teacher.width=0.5", "attention=none", "teacher.image_size=24", "report=false"]
    settings += ["teacher.mean=[0.5,0.5,0.5]", "teacher.std=[0.25,0.25,0.25]"]
    made, cost = {}, {}
    for name, more in (("every", [f"teacher.classes={tmp_path / 'classes.txt'}"]), ("few", [])):
        file = f"teacher.checkpoint={tmp_path / name}.safetensors"
        folder, result = run(tmp_path / "outputs", *settings, file, *more, teacher="tiny_cnn")
        made[name], cost[name] = np.load(folder / "predictions.npz"), result["teacher"]
    assert cost["few"]["macs"] == macs(TinyCNN(len(OURS), 24, width=0.5), 24), "at its own size"
    assert cost["every"]["params"] - cost["few"]["params"] == 2 * (64 + 1), "two more rows of its classifier"
    for role, rounding in (("teacher", 1e-5), ("student", 0.02)):  # a training amplifies the last bits
        np.testing.assert_allclose(made["every"][role], made["few"][role], rtol=0, atol=rounding)


def test_a_teacher_that_is_trained_here_takes_no_classes(file):
    from omegaconf import OmegaConf

    from kd.config.checks import check_values

    cfg = compose(*TINY, f"teacher.classes={file}")
    with pytest.raises(ValueError, match=r"teacher\.classes names the classes of a trained teacher"):
        check_values(OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True))
