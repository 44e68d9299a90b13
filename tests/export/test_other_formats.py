"""OpenVINO, Core ML and LiteRT, each where its library is installed; else a sentence says what to install."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from kd.export import other_formats
from kd.export.onnx_file import write_onnx
from kd.export.program import to_program
from kd.inference.assemble import assemble
from kd.inference.description import Description

CLASSES = ("sea, open", 'the "street"', "a|b", "🌲 forest")
SPECS = {
    "tiny_cnn": {"_target_": "kd.models.tiny_cnn.TinyCNN", "width": 0.5, "depth": 3, "dropout": 0.0},
    "mobilenet": {"_target_": "kd.models.backbone.build", "name": "mobilenetv3_small_050", "stem": "large"},
}


@pytest.fixture(scope="module", params=SPECS)
def student(request):
    spec = {"network": SPECS[request.param]}
    torch.manual_seed(0)
    network = assemble(spec, CLASSES, 32)
    network.normalize_by([0.4, 0.5, 0.3], [0.2, 0.3, 0.25])
    return network, Description(spec, CLASSES, 32, 32, name="a run", key="abc")


@pytest.mark.parametrize("name", other_formats.FORMATS)
def test_a_format_gives_the_logits_of_torch(name, student, tmp_path):
    pytest.importorskip(other_formats.FORMATS[name].library)
    network, description = student
    if name == "openvino":
        write_onnx(to_program(network, 32), tmp_path / "student.onnx", description)
    (made,) = other_formats.write([name], tmp_path, network, description)
    assert (tmp_path / made.file).exists() and made.format.endswith("float32")
    if made.predict is None:
        assert name == "coreml" and "macOS" in made.reason
        return
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(images).numpy()
    found = made.predict(images.numpy())
    assert found.shape == wanted.shape and found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


def test_a_file_of_openvino_describes_itself(student, tmp_path):
    openvino = pytest.importorskip("openvino")
    network, description = student
    write_onnx(to_program(network, 32), tmp_path / "student.onnx", description)
    other_formats.write(["openvino"], tmp_path, network, description)
    model = openvino.Core().read_model(tmp_path / "student.openvino/student.xml")
    metadata = {name: model.get_rt_info(["kd", name]).astype(str) for name in description.to_metadata()}
    assert Description.from_metadata(metadata, "student.xml") == description
    assert model.inputs[0].get_any_name() == "images" and model.outputs[0].get_any_name() == "logits"


def test_a_package_of_core_ml_describes_itself(student, tmp_path):
    coremltools = pytest.importorskip("coremltools")
    network, description = student
    other_formats.write(["coreml"], tmp_path, network, description)
    spec = coremltools.models.MLModel(str(tmp_path / "student.mlpackage"), skip_model_load=True).get_spec()
    metadata = {k.removeprefix("kd."): v for k, v in spec.description.metadata.userDefined.items() if k[:3] == "kd."}
    assert Description.from_metadata(metadata, "student.mlpackage") == description


@pytest.mark.parametrize("name", other_formats.FORMATS)
def test_a_missing_library_is_named_with_what_to_install(name, tmp_path, monkeypatch):
    form = other_formats.FORMATS[name]
    monkeypatch.setattr(
        other_formats, "find_spec", lambda library: None if library == form.library else find_spec(library)
    )
    with pytest.raises(ValueError, match=rf'--{name} needs {form.package}: pip install -e "\.\[{form.extra}\]"'):
        other_formats.write([name], tmp_path, torch.nn.Identity(), None)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="did you mean openvino"):
        other_formats.write(["openvin"], tmp_path, torch.nn.Identity(), None)


def test_what_a_library_cannot_write_is_a_sentence(tmp_path):
    pytest.importorskip("openvino")
    description = Description({"network": SPECS["tiny_cnn"]}, CLASSES, 32, 32)
    (tmp_path / "student.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="openvino cannot write this network"):
        other_formats.write(["openvino"], tmp_path, torch.nn.Identity(), description)
