"""The lines that the model card prints: they run with onnxruntime, NumPy and Pillow alone, and answer as kd does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd.export.usage import onnx_lines
from kd.inference.description import Description
from kd.inference.model import Model
from kd.inference.preprocess import preprocess
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN

CLASSES = ("sea, open", 'the "street"', "a|b", "🌲 forest", "glacier")
SPEC = {"network": {"_target_": "kd.models.tiny_cnn.TinyCNN", "width": 0.25, "depth": 3, "dropout": 0.0}}
PLAIN = Description(network=SPEC, classes=CLASSES, image_size=24, stored_size=24)
VARIANTS = {
    "crop": {},
    "pad": {"fit": "pad"},
    "squash": {"fit": "squash"},
    "grey": {"channels": 1},
    "stored": {"stored_size": 40},
    "cropped": {"stored_size": 40, "crop_pct": 0.8},
    "enlarged": {"crop_pct": 0.6, "fit": "pad"},
    "exact": {"stored_size": 30, "crop_pct": 0.8, "channels": 1},
    "deep": {"white": (4095.0, False)},
}
# what only kd and torch could give is not there for the lines
BLOCKED = "import sys\nfor name in ('torch', 'kd', 'timm', 'torchvision'): sys.modules[name] = None\n"


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(1)
    network = TinyCNN(num_classes=len(CLASSES), image_size=24, width=0.25, depth=3, dropout=0.0)
    for layer in network.modules():  # so that the answers differ
        if hasattr(layer, "weight") and isinstance(layer.weight, torch.nn.Parameter) and layer.weight.ndim > 1:
            torch.nn.init.normal_(layer.weight, std=0.5)
    return Model(Normalized(network, [0.4, 0.5, 0.3], [0.2, 0.3, 0.25]), PLAIN)


@pytest.fixture(scope="module")
def deploy(model, tmp_path_factory) -> Path:
    from kd.export.onnx_file import write_onnx
    from kd.export.program import to_program

    folder = tmp_path_factory.mktemp("deploy")
    write_onnx(to_program(model.network, 24), folder / "student.onnx", PLAIN)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Pictures of each mode and shape, two of them turned and two transparent."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)

    def draw(width: int, height: int, channels: int = 3) -> Image.Image:
        coarse = random.integers(0, 256, (5, 5, channels), dtype=np.uint8)
        bands = [Image.fromarray(coarse[..., band]).resize((width, height)) for band in range(channels)]
        return Image.merge({1: "L", 3: "RGB", 4: "RGBA"}[channels], bands)

    turned = Image.Exif()
    turned[0x0112] = 6
    draw(61, 40).save(folder / "a wide.png")
    draw(33, 80).save(folder / "b tall.jpg")
    draw(24, 24).save(folder / "c exact.png")
    draw(37, 50).save(folder / "d turned.jpg", exif=turned)
    draw(30, 45, 1).save(folder / "e grey.png")
    draw(45, 31, 4).save(folder / "f clear.png")
    draw(45, 45).quantize(16).save(folder / "g palette.gif")
    draw(40, 30).convert("CMYK").save(folder / "h ink.jpg")
    draw(41, 30, 1).convert("1").save(folder / "i lines.png")
    draw(41, 30).save(folder / "j key.png", transparency=(10, 10, 10))
    draw(200, 3).save(folder / "k strip.png")
    return folder


def run_lines(lines: str, deploy: Path, pictures: Path, python: str = sys.executable) -> list[list[str]]:
    done = subprocess.run(
        [python, "-I", "-c", lines, str(pictures)], cwd=deploy, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def expected(model: Model, pictures: Path) -> list[list[str]]:
    paths = sorted(pictures.iterdir())
    odds = model(torch.cat([model.preprocess(path) for path in paths])).softmax(1)
    return [
        [path.name, CLASSES[int(row.argmax())], f"{float(row.max()):.1%}"]
        for path, row in zip(paths, odds, strict=True)
    ]


def pixels_of(path: Path, description: Description) -> np.ndarray:
    """Run the lines from ``path`` to ``pixels`` in this process."""
    lines = onnx_lines(description).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("for path"))
    last = next(number for number, line in enumerate(lines) if line.startswith("    logits"))
    found = {"path": path, "np": np}
    exec("\n".join([lines[1], *(line.removeprefix("    ") for line in lines[first + 1 : last])]), found)
    return found["pixels"]


def test_the_lines_answer_as_kd_does_without_kd_and_torch(model, deploy, pictures):
    answers = run_lines(BLOCKED + onnx_lines(PLAIN), deploy, pictures)
    assert answers == expected(model, pictures)
    assert len({name for _, name, _ in answers}) > 1


def test_they_are_twelve():
    assert len(onnx_lines(PLAIN).splitlines()) == 12
    assert max(len(onnx_lines(replace(PLAIN, **each)).splitlines()) for each in VARIANTS.values()) <= 17


@pytest.mark.parametrize("name", VARIANTS)
def test_they_see_the_pixels_that_the_run_saw(name, pictures):
    """All of the lines but those of the session, in this process."""
    description = replace(PLAIN, **VARIANTS[name])
    for path in sorted(pictures.iterdir()):
        pixels, want = pixels_of(path, description), preprocess(path, description).numpy()
        assert pixels.dtype == np.float32 and pixels.shape == want.shape
        exact = description.crop_pct == 1 and description.stored_size == 24 or name == "exact"
        assert np.abs(pixels - want).max() <= (0 if exact else 1e-5), path.name


def test_grey_of_twelve_bits_is_scaled_by_the_white_of_the_data(tmp_path):
    description = replace(PLAIN, **VARIANTS["deep"])
    levels = np.random.default_rng(0).integers(0, 4096, (24, 24), dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    path = tmp_path / "deep.png"
    assert np.array_equal(pixels_of(path, description), preprocess(path, description).numpy())


def test_the_classes_are_in_the_file(deploy):
    import onnx

    metadata = {each.key: each.value for each in onnx.load(deploy / "student.onnx").metadata_props}
    assert tuple(json.loads(metadata["classes"])) == CLASSES


@pytest.mark.slow  # it makes an environment
def test_a_fresh_environment_needs_onnxruntime_numpy_and_pillow_alone(model, deploy, pictures, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "pillow"], check=True)
    assert run_lines(onnx_lines(PLAIN), deploy, pictures, python) == expected(model, pictures)
