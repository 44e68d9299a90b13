"""``student.onnx``: the same logits for any batch, and a file that says what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf

import kd
from kd.export.onnx_file import opset, write_onnx
from kd.export.write import fold
from kd.inference.description import Description
from tests.conftest import compose, options
from tests.export.students import CLASSES, images, student, timm


def write(path: Path, model) -> onnx.ModelProto:
    return write_onnx(fold(model.network, model.image_size)[1], path, model.description)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path, model = tmp_path_factory.mktemp("onnx") / "student.onnx", student()
    write(path, model)
    return path, model


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("count", [1, 2, 65])
def test_onnxruntime_gives_the_logits_of_torch(written, count):
    path, model = written
    some = images(count, 32)
    (logits,) = session_of(path).run(["logits"], {"images": some.numpy()})
    assert np.abs(logits - model(some).numpy()).max() < 1e-5


def test_the_file_says_what_it_takes_and_gives(written):
    path, model = written
    session = session_of(path)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape, taken.type) == ("images", ["batch", 3, 32, 32], "tensor(float)")
    assert (given.name, given.shape) == ("logits", ["batch", len(CLASSES)])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == list(CLASSES) and about["key"] == "c0ffee"
    assert Description.from_metadata(about, "student.onnx") == model.description
    assert "[0, 1]" in about["input.images"] and "softmax" in about["output.logits"]
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    assert "[0, 1]" in made.graph.input[0].doc_string and made.producer_name == "kd"
    assert opset(made) >= 20 and not any(node.op_type == "BatchNormalization" for node in made.graph.node)


def test_the_file_names_no_path_of_this_machine(written):
    content = written[0].read_bytes()
    for place in (str(Path(kd.__file__).parents[1]), os.path.dirname(torch.__file__), "stack_trace", "pkg.torch"):
        assert place.encode() not in content


@pytest.mark.parametrize("classes", [("only",), tuple(f"class {number}" for number in range(1000))], ids=len)
def test_one_class_and_a_thousand(tmp_path, classes):
    model = student(size=16, classes=classes)
    write(tmp_path / "student.onnx", model)
    session = session_of(tmp_path / "student.onnx")
    (logits,) = session.run(None, {"images": images(3, 16).numpy()})
    assert logits.shape == (3, len(classes))
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(classes)


def check(spec, size: int, folder: Path) -> None:
    model = student(spec, size)
    write(folder / "student.onnx", model)
    some = images(3, size, seed=2)
    expected = model(some).numpy()
    (logits,) = session_of(folder / "student.onnx").run(None, {"images": some.numpy()})
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())
    assert (logits.argmax(1) == expected.argmax(1)).all()


def settings_of(option: str) -> dict:
    return OmegaConf.to_container(compose(f"student={option}").student, resolve=True)


SIX = ("tiny_cnn", "tiny_resnet", "tiny_dscnn", "resnet8", "shufflenetv1", "resnet10t")


@pytest.mark.parametrize("option", SIX)
def test_six_students(option, tmp_path):
    check(settings_of(option), 32, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("option", [each for each in options("student") if each not in ("timm", *SIX)])
def test_every_student_of_the_zoo(option, tmp_path):
    check(settings_of(option), 32, tmp_path)


OF_TIMM = {  # families of timm -> the size of their images
    "resnet18": 32,
    "efficientnet_b0": 64,
    "convnext_atto": 64,
    "vit_tiny_patch16_224": 64,
    "deit_tiny_distilled_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 224,
    "mobilevit_xxs": 64,
    "levit_128s": 224,
    "repvgg_a0": 64,
    "fastvit_t8": 64,
    "ghostnet_050": 64,
    "regnetx_002": 64,
    "densenet121": 64,
    "maxvit_rmlp_nano_rw_256": 256,
    "mobileone_s0": 64,
    "xcit_nano_12_p16_224": 64,
    "lcnet_050": 64,
    "starnet_s1": 64,
    "hrnet_w18_small": 64,
    "hiera_tiny_224": 64,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TIMM)
def test_students_of_timm(name, tmp_path):
    check(timm(name, stem="large"), OF_TIMM[name], tmp_path)
