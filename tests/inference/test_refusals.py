"""What ``kd.load`` refuses, and in which words: foreign, damaged and dangerous files."""

from __future__ import annotations

import json
import sys
import types

import pytest
import safetensors.torch
import torch
from torch import nn

import kd
from kd.inference.assemble import assemble, find_target
from kd.inference.description import Description
from kd.inference.safetensors_file import read_metadata, with_metadata
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN

NETWORK = {"network": {"_target_": "kd.models.tiny_cnn.TinyCNN", "depth": 3, "dropout": 0.0, "width": 0.25}}
CLASSES = ("one", "two")


def description(**other) -> Description:
    return Description(**{"network": NETWORK, "classes": CLASSES, "image_size": 16, "stored_size": 16, **other})


@pytest.fixture
def file(tmp_path):
    """A student's file that was sent to somebody."""
    network = Normalized(TinyCNN(2, 16, width=0.25), [0.5] * 3, [0.25] * 3)
    path = tmp_path / "student.safetensors"
    path.write_bytes(with_metadata(safetensors.torch.save(network.state_dict()), description().to_metadata()))
    return path


def rewrite(file, **changes):
    """Change the metadata of a file; None removes."""
    old = read_metadata(file) | changes
    file.write_bytes(
        with_metadata(file.read_bytes(), {k: v for k, v in old.items() if v is not None and k != "format"})
    )


def test_metadata_come_back_and_leave_the_tensors_alone(file):
    assert Description.from_metadata(read_metadata(file), "x") == description()
    assert Description.from_dict(description().to_dict(), "x") == description()
    names = ("a, b", 'the "sea"', "😀", "\n", "")
    strange = description(classes=names, name="図", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), white=(4095.0, True))
    content = with_metadata(safetensors.torch.save({"x": torch.arange(3)}), strange.to_metadata())
    assert safetensors.torch.load(content)["x"].tolist() == [0, 1, 2]
    file.write_bytes(content)
    assert Description.from_metadata(read_metadata(file), "x") == strange


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": None}, "does not say which network it holds"),
        ({"classes": "[1, 2]"}, "classes must be a list of names"),
        ({"classes": "[]"}, "classes must be a list of names"),
        ({"classes": "[" * 100_000}, "its description is not readable"),
        ({"image_size": "-3"}, "data.image_size must be"),
        ({"image_size": "null"}, "its description is damaged"),
        ({"stored_size": "1000000000"}, "more than 4096"),
        ({"fit": "stretch"}, "data.fit must be"),
        ({"white": "3"}, "its description is damaged"),
        ({"white": "[0, false]"}, "white must be a level above 0"),
        ({"channels_last": '"yes"'}, "channels_last must be true or false"),
        ({"version": '"x"'}, "version must be a whole number"),
        ({"network": '{"ensemble": 3}'}, "the network cannot be built"),
        ({"network": '{"ensemble": [{"network": {}}], "combine": "logits"}'}, "the network cannot be built"),
        ({"network": '{"ensemble": []}'}, "the network cannot be built: 'combine' is missing"),
        ({"network": '{"network": 3}'}, "the network cannot be built"),
        ({"version": "99", "kd_version": "7.1"}, "was written by a newer kd, 7.1"),
        ({"classes": '["one", "two", "three"]'}, "has 2 classes"),
        ({"network": "{}"}, "network must hold the settings"),
    ],
)
def test_a_damaged_description_is_refused_in_a_sentence(file, changes, words):
    rewrite(file, **changes)
    with pytest.raises(ValueError, match=words):
        kd.load(file)


def test_a_file_that_is_none_is_refused(tmp_path, file):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-100])
    for wrong in (cut, tmp_path / "empty.safetensors"):
        wrong.touch()
        with pytest.raises(ValueError, match="is not a readable .safetensors file"):
            kd.load(wrong)
    with pytest.raises(FileNotFoundError, match="there is no .*nowhere"):
        kd.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not the folder of a run"):
        kd.load(tmp_path)
    with pytest.raises(
        ValueError, match="which must be one of student, teacher, baseline, got 'techer'; did you mean teacher"
    ):
        kd.load(file, "techer")
    with pytest.raises(ValueError, match="holds the student alone"):
        kd.load(file, "teacher")


def test_a_folder_that_is_no_run_is_refused_with_what_would_be_right(tmp_path):
    (tmp_path / "runs" / "good").mkdir(parents=True)
    with pytest.raises(ValueError, match="name one in it, such as .*good"):
        kd.load(tmp_path)
    (tmp_path / "sweep.json").touch()
    with pytest.raises(ValueError, match="is a sweep: name one of its runs"):
        kd.load(tmp_path)
    run = tmp_path / "runs" / "good"
    (run / ".unfinished").touch()
    with pytest.raises(ValueError, match="has not finished"):
        kd.load(run)
    (run / ".unfinished").unlink()
    for text, words in (("{", "cannot be read"), ("[]", "is damaged"), ('{"teacher": {}}', "has no student")):
        (run / "models.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            kd.load(run)
    entry = description().to_dict()
    (run / "models.json").write_text(json.dumps({"student": entry}))
    with pytest.raises(ValueError, match="does not name its files"):
        kd.load(run)
    (run / "models.json").write_text(json.dumps({"student": entry | {"files": ["../../students/x/network"]}}))
    with pytest.raises(FileNotFoundError, match="keep good in the outputs folder"):
        kd.load(run)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "kd.store.files.write_text",
        "kd.models.backbone.timm.create_model",
        "kd.models.backbone.Path",
        "kd.models.weights.torch",
        "kd.models.nothing.Here",
        "kd.models",
        "",
        "..",
    ],
)
def test_a_file_names_no_code_but_networks_of_kd(file, target):
    rewrite(file, network=json.dumps({"network": {"_target_": target, "name": "x"}}))
    with pytest.raises(ValueError, match="is code outside kd|there is no |is not a network"):
        kd.load(file)


def test_own_code_is_built_if_the_caller_trusts_the_file(file, monkeypatch):
    own = types.ModuleType("my_networks")

    class Own(TinyCNN):
        def __init__(self, num_classes: int, image_size: int):
            super().__init__(num_classes, image_size, width=0.25)

    own.Own = Own
    monkeypatch.setitem(sys.modules, "my_networks", own)
    rewrite(file, network=json.dumps({"network": {"_target_": "my_networks.Own"}}))
    with pytest.raises(ValueError, match="trusted=True"):
        kd.load(file)
    assert isinstance(kd.load(file, trusted=True).network.network, Own)
    assert find_target("my_networks.Own", trusted=True) is Own


def test_pretrained_weights_are_not_read_or_downloaded_again():
    spec = {"network": {"_target_": "kd.models.backbone.build", "name": "resnet10t", "stem": "small"}}
    with_file = {"network": {**spec["network"], "pretrained": {"sha256": "0" * 64}}}
    network = assemble(with_file, CLASSES, 16)
    assert isinstance(network.network, nn.Module)
    first = network.network.conv1[0]
    assert (first.kernel_size, first.stride) == ((3, 3), (1, 1))


def test_an_exported_program_is_refused():
    spec = {"network": {"_target_": "kd.models.exported.Exported", "trusted": True}}
    with pytest.raises(ValueError, match="an exported program"):
        assemble(spec, CLASSES, 16)
