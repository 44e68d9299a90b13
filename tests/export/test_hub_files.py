"""The two files of a hub: timm loads what is timm's, kd loads all, and nothing pretends."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from PIL import Image

import kd
from kd.export.hub_files import write_hub_files
from kd.export.usage import timm_lines
from kd.inference.assemble import assemble
from kd.inference.description import Description
from kd.inference.model import Model
from kd.inference.safetensors_file import read_metadata

TIMM = {"_target_": "kd.models.backbone.build", "pretrained": False, "stem": "auto"}
CLASSES = ("sea, open", 'the "street"', "a|b", "🌲 forest")


def make(
    size: int = 64, stored: int | None = None, crop_pct: float = 1.0, spec: dict | None = None, **network
) -> Model:
    network = network if "_target_" in network else {**TIMM, **network}
    spec = {"network": network, **(spec or {})}
    description = Description(spec, CLASSES, size, stored or size, crop_pct=crop_pct, key="abc", name="a run")
    torch.manual_seed(0)
    built = assemble(spec, CLASSES, size)
    built.normalize_by([0.41, 0.5, 0.3], [0.2, 0.31, 0.25])
    for layer in built.modules():  # a trained network's statistics differ from those of a new one
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)
    return Model(built, description)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet10t", 64), ("mobilenetv3_small_050", 64), ("vit_tiny_patch16_224", 64), ("vit_tiny_patch16_224", 32)],
)
def test_timm_loads_the_folder_and_kd_too(name, size, tmp_path):
    model = make(size, stored=size + 16, crop_pct=0.8, name=name)
    written = write_hub_files(tmp_path, model)
    assert (written.layout, written.why_not_timm) == ("timm", "")
    assert sorted(path.name for path in written.paths) == sorted(path.name for path in tmp_path.iterdir())
    images = torch.rand(3, 3, size, size)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    cfg = loaded.pretrained_cfg
    mean, std = (torch.tensor(cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        assert (loaded((images - mean) / std) - model(images)).abs().max() < 1e-5
    assert cfg["label_names"] == list(CLASSES) and list(cfg["input_size"]) == [3, size, size]
    data = timm.data.resolve_model_data_config(loaded)
    assert (data["crop_pct"], data["interpolation"], data["crop_mode"]) == (0.8, "bilinear", "center")
    assert torch.equal(kd.load(tmp_path)(images), model(images))


def test_the_lines_of_the_card_run_with_timm(tmp_path, monkeypatch, capsys):
    (tmp_path / "deploy").mkdir()
    write_hub_files(tmp_path / "deploy", make(name="resnet10t"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 70), "blue").save("image.jpg")
    exec(timm_lines(), {})
    model = kd.load("deploy")
    assert capsys.readouterr().out == f"{model.classes[model(model.preprocess('image.jpg')).argmax()]}\n"


def test_a_tag_of_weights_is_no_part_of_the_architecture(tmp_path):
    assert write_hub_files(tmp_path, make(name="resnet10t.c3_in1k")).layout == "timm"
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["architecture"] == "resnet10t"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "resnet10t", "stem": "small"}, "stem=small"),
        ({"name": "resnet10t", "size": 32}, "stem=small"),
        ({"name": "resnet10t", "stem": "small", "pretrained": True}, "stem=small"),  # all tensors have timm's shapes
        (
            {
                "name": "resnet18",
                "spec": {
                    "attention": {
                        "wrap": {"_target_": "kd.attention.simam.simam", "_partial_": True, "e_lambda": 1e-4},
                        "stages": [1],
                    }
                },
            },
            "attention",
        ),
    ],
)
def test_a_network_that_timm_cannot_build_is_written_for_kd(settings, reason, tmp_path):
    model = make(**settings)
    written = write_hub_files(tmp_path, model)
    assert written.layout == "kd" and reason in written.why_not_timm
    _loads_with_kd_alone(tmp_path, model)


def test_a_network_of_kd_is_described_for_kd(tmp_path):
    model = make(24, _target_="kd.models.tiny_cnn.TinyCNN", width=0.25, depth=3, dropout=0.0)
    written = write_hub_files(tmp_path, model)
    assert (written.layout, written.why_not_timm) == ("kd", "")
    _loads_with_kd_alone(tmp_path, model)


def _loads_with_kd_alone(folder, model):
    images = torch.rand(2, 3, model.image_size, model.image_size)
    assert torch.equal(kd.load(folder)(images), model(images))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert Description.from_dict(config, "config.json") == model.description
    assert "architecture" not in config
    assert read_metadata(folder / "model.safetensors")["key"] == "abc"
    with pytest.raises(Exception, match="architecture"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


def test_a_folder_that_is_written_again_from_itself_stays_the_same(tmp_path):
    write_hub_files(tmp_path, make(name="resnet10t"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_hub_files(tmp_path, kd.load(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
