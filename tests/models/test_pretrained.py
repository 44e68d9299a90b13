"""Weights to start from: what is taken of a file, what is new, and which files are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from omegaconf import OmegaConf

from kd.models.backbone import build
from kd.models.normalized import Normalized
from kd.models.pretrained import read_pretrained
from kd.pipeline.keys import run_keys
from tests.conftest import compose
from tests.pipeline.test_run import command

NAME, SOURCE, SIZE = "test_resnet", 10, 64
HEAD = ("fc.weight", "fc.bias")


def published(name: str = NAME, classes: int = SOURCE, **how) -> dict[str, torch.Tensor]:
    """Return weights as a training would leave them: no tensor has its initial values."""
    torch.manual_seed(7)
    state = timm.create_model(name, num_classes=classes, **how).state_dict()
    return {
        key: value + torch.rand_like(value) if value.is_floating_point() else value + 5 for key, value in state.items()
    }


def put(path: Path, state: dict) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def card(folder: Path, state: dict, weights: str = "model.safetensors", **changes) -> Path:
    folder.mkdir()
    put(folder / weights, state)
    about = {"architecture": NAME, "num_classes": SOURCE, "pretrained_cfg": {"mean": [0.4] * 3, "std": [0.2] * 3}}
    (folder / "config.json").write_text(json.dumps(about | changes))
    return folder


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "test_nfnet"])
def test_all_but_the_classifier_comes_from_the_file(tmp_path, name):
    state = published(name)
    size = 160 if name == "test_vit" else SIZE
    network = build(name, 6, size, pretrained=str(put(tmp_path / "own.safetensors", state)), stem="large")
    cfg = timm.get_pretrained_cfg(name)
    heads = [key for key in state if key.startswith(f"{cfg.classifier}.")]
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]) != (key in heads), key
    assert network.weights_from == (
        f"{len(state) - len(heads)} tensors from own.safetensors; new: {', '.join(heads)} (6 classes)"
    )
    assert network.input_statistics == (cfg.mean, cfg.std)
    assert network.pretrained_cfg["state_dict"] is None, "each copy of the network would copy the file"


def test_the_new_classifier_is_that_of_timm_for_this_seed(tmp_path):
    path = str(put(tmp_path / "own.safetensors", published()))
    torch.manual_seed(3)
    expected = timm.create_model(NAME, num_classes=6)
    torch.manual_seed(3)
    found = build(NAME, 6, SIZE, pretrained=path)
    assert all(torch.equal(found.state_dict()[key], expected.state_dict()[key]) for key in HEAD)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_vit", NAME])
def test_a_new_classifier_starts_no_larger_than_a_linear_layer(tmp_path, name):
    path = str(put(tmp_path / "own.safetensors", timm.create_model(name, num_classes=SOURCE).state_dict()))
    weight = build(name, 6, 160, pretrained=path).get_classifier().weight
    assert 0 < weight.std() <= 1.1 * (3 * weight.shape[1]) ** -0.5


def test_a_classifier_of_as_many_classes_is_kept(tmp_path):
    state = published(classes=6)
    network = build(NAME, 6, SIZE, pretrained=str(put(tmp_path / "own.pt", state)))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert network.weights_from == f"{len(state)} tensors from own.pt"


def test_a_file_without_classifier_is_complete(tmp_path):
    state = {key: value for key, value in published().items() if key not in HEAD}
    network = build(NAME, 6, SIZE, pretrained=str(put(tmp_path / "own.pt", state)))
    assert torch.equal(
        network.conv1.weight if hasattr(network.conv1, "weight") else network.conv1[0].weight,
        state.get("conv1.weight", state.get("conv1.0.weight")),
    )
    assert f"{len(state)} tensors" in network.weights_from and "new: fc.weight, fc.bias" in network.weights_from


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
    ids=["timm", "ddp", "half", "old"],
)
def test_files_of_trainers_are_taken(tmp_path, wrap):
    state = published()
    network = build(NAME, 6, SIZE, pretrained=str(put(tmp_path / "own.pth", wrap(state))))
    for key, value in network.state_dict().items():
        if key not in HEAD and value.is_floating_point():
            torch.testing.assert_close(value, state[key], rtol=1e-3, atol=1e-3)


def test_a_network_that_kd_trained_brings_its_statistics(tmp_path):
    own = Normalized(timm.create_model(NAME, num_classes=SOURCE), [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    network = build(NAME, 6, SIZE, pretrained=str(put(tmp_path / "network.safetensors", own.state_dict())))
    assert Normalized(network, [0.0] * 3, [1.0] * 3).mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_weights_for_grey_images_are_spread_over_the_colours(tmp_path):
    state = published(in_chans=1)
    conv = next(key for key, value in state.items() if value.ndim == 4)
    network = build(NAME, 6, SIZE, pretrained=str(put(tmp_path / "grey.pt", state)))
    found = network.state_dict()[conv]
    torch.testing.assert_close(found, state[conv].expand_as(found) / 3)


def without(state: dict, part: str) -> dict:
    return {key: value for key, value in state.items() if part not in key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "layer4"), r"another network: layer4\S+ is missing"),
        (
            lambda s: {**s, "layer4.1.conv1.weight": torch.ones(1)},
            "another network: layer4.1.conv1.weight is not known",
        ),
        (lambda s: {**s, "layer1.0.conv1.weight": torch.ones(3, 3, 3, 3)}, r"layer1.0.conv1.weight is \(3, 3, 3, 3\)"),
        (lambda s: {**s, "layer1.0.conv1.weight": s["layer1.0.conv1.weight"] * float("nan")}, "NaN or infinite"),
        (lambda s: {"a": torch.ones(2)}, "another network"),
    ],
    ids=["less", "more", "shape", "nan", "nothing"],
)
@pytest.mark.parametrize("classes", [6, SOURCE])
def test_a_file_of_another_network_is_refused_by_the_names_that_differ(tmp_path, change, message, classes):
    path = put(tmp_path / "other.pt", change(published()))
    with pytest.raises(ValueError, match=message):
        build(NAME, classes, SIZE, pretrained=str(path))


def test_no_code_of_a_file_runs(tmp_path):
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    for name, state in (("a.pt", Harm()), ("b.bin", {"state_dict": published(), "x": Harm()})):
        torch.save(state, tmp_path / name)
        with pytest.raises(ValueError, match="which is code and was not run"):
            build(NAME, 6, SIZE, pretrained=str(tmp_path / name))
    (tmp_path / "c.safetensors").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ValueError, match="not a readable"):
        build(NAME, 6, SIZE, pretrained=str(tmp_path / "c.safetensors"))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_model_card_says_what_its_weights_are_for(tmp_path, weights):
    state = published()
    folder = card(
        tmp_path / "snapshot", state, weights, architecture=f"{NAME}.r160_in1k", model_args={"num_classes": 4}
    )
    network = build(NAME, 6, SIZE, pretrained=str(folder))
    assert network.input_statistics == ([0.4] * 3, [0.2] * 3) and weights in network.weights_from
    old = card(tmp_path / "old", state, pretrained_cfg={}, mean=[0.3] * 3, std=[0.1] * 3)
    (old / "config.json").write_text(json.dumps({"architecture": NAME, "mean": [0.3] * 3, "std": [0.1] * 3}))
    assert build(NAME, 6, SIZE, pretrained=str(old)).input_statistics[0] == [0.3] * 3
    with pytest.raises(ValueError, match="is the model card of test_resnet, and the network is test_convnext"):
        build("test_convnext", 6, SIZE, pretrained=str(folder))


def test_cards_of_other_networks_are_refused(tmp_path):
    state = published()
    for number, (changes, message) in enumerate(
        [
            ({"architecture": None}, "names no architecture"),
            ({"model_args": {"width": 3}}, "is built with width, another network"),
            ({"pretrained_cfg": {"mean": "grey"}}, "must be lists of numbers"),
            ({"pretrained_cfg": {"mean": [120.0] * 3, "std": [60.0] * 3}}, r"must lie in \[0, 1\]"),
        ]
    ):
        folder = card(tmp_path / str(number), state, **changes)
        with pytest.raises(ValueError, match=message):
            read_pretrained(NAME, folder)
    (folder / "config.json").write_text("no json")
    with pytest.raises(ValueError, match="not a readable model card"):
        read_pretrained(NAME, folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="is a folder: name a file in it"):
        read_pretrained(NAME, folder)


def keys(*overrides: str) -> dict:
    made = run_keys(OmegaConf.to_container(compose(*overrides), resolve=True), "pixels", True)
    return {"teacher": made.teacher, **made.networks}


def test_a_file_counts_by_its_content_and_a_card_by_its_statistics_too(tmp_path):
    state = published()
    paths = [put(tmp_path / name, state) for name in ("a.safetensors", "b.safetensors")]
    paths.append(put(tmp_path / "c.safetensors", {**state, "fc.bias": state["fc.bias"] + 1}))
    paths += [card(tmp_path / "d", state), card(tmp_path / "e", state, license="mit")]
    paths.append(card(tmp_path / "f", state, pretrained_cfg={"mean": [0.1] * 3, "std": [0.2] * 3}))
    a, b, c, d, e, f = (keys("teacher=timm", f"teacher.name={NAME}", f"teacher.pretrained={path}") for path in paths)
    assert a["teacher"] == b["teacher"] and d["teacher"] == e["teacher"]
    assert len({json.dumps(each["teacher"]) for each in (a, c, d, f)}) == 4
    assert str(tmp_path) not in json.dumps([a, d])
    a, b, c = (keys("student=timm", f"student.name={NAME}", f"student.pretrained={path}") for path in paths[:3])
    assert a["student"] == b["student"] != c["student"] and a["baseline"] != c["baseline"]
    assert a["teacher"] == c["teacher"] and str(tmp_path) not in json.dumps(a)


def test_a_checkpoint_in_a_model_card_brings_its_statistics(tmp_path):
    state = published(classes=6)
    folder, place = card(tmp_path / "snapshot", state), tmp_path / "outputs"
    own = ["teacher=timm", f"teacher.name={NAME}", f"teacher.checkpoint={folder}", "data.image_size=48"]
    cheap = ["data.train_images=60", "data.test_images=30", "student.width=0.25", "train.student.epochs=1"]
    cheap += [
        "train.batch_size=16",
        "latency.seconds=0.02",
        "report=false",
        "teacher.allow_weak=true",
        "baseline=false",
    ]
    command(*own, *cheap, "tracking=disabled", outputs=place, cwd=tmp_path)
    (weights,) = (place / "teachers").glob("*/network.safetensors")
    found = safetensors.torch.load_file(weights)
    assert found["mean"].flatten().tolist() == pytest.approx([0.4] * 3)
    assert all(torch.equal(found[f"network.{key}"], value) for key, value in state.items())


def test_the_command_refuses_wrong_files_before_anything_is_written(tmp_path):
    other = put(tmp_path / "other.safetensors", published("test_convnext"))
    own = ["teacher=timm", f"teacher.name={NAME}"]
    for value, message in (
        ("nowhere.pt", "teacher.pretrained must be true or false, or an existing file, or the folder of a model card"),
        (str(other), "other.safetensors holds the weights of another network"),
    ):
        done = command(*own, f"teacher.pretrained={value}", outputs=tmp_path / "outputs", cwd=tmp_path, ok=False)
        assert done.returncode == 2
        assert message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "outputs").exists()
