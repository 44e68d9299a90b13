"""A run on files of every kind, and one on grey images, made once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from kd.pipeline.execute import run
from tests.conftest import TINY, compose
from tests.data.deep import png
from tests.data.test_fashion_mnist import fill

COUNT = {"train": 18, "test": 10}  # images of a class
CLASSES = ("a, b", '"quoted" 🦉', "línea")
FEW = [option for option in TINY if not option.startswith(("data.train_images", "data.test_images", "data.image_size"))]
QUICK = (*FEW, "train.teacher.epochs=1", "train.student.epochs=2", "report=false", "tracking=disabled")
QUICK += ("latency.seconds=0.02", "teacher=tiny_cnn", "attention=none")


def draw(random: np.random.Generator, number: int) -> Image.Image:
    """Return blobs of colour, not square: each class has a tone of its own."""
    width, height = (int(side) for side in random.integers(20, 60, 2))
    noise = random.integers(0, 256, (height, width, 3), np.uint8)
    noise[..., number % 3] //= 3
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))


def write(image: Image.Image, folder: Path, kind: int, number: int) -> None:
    """Write one of the kinds of file that users have."""
    if kind == 0:
        image.save(folder / f"{number:02}.jpg", quality=90)
    elif kind == 1:  # turned by its EXIF orientation
        exif = Image.Exif()
        exif[274] = 6
        image.save(folder / f"{number:02}.jpg", exif=exif)
    elif kind == 2:
        image.convert("L").save(folder / f"{number:02}.png")
    elif kind == 3:
        image.putalpha(image.convert("L"))
        image.save(folder / f"{number:02}.png")
    else:  # 12 bits in 16
        levels = np.asarray(image).astype(np.uint16)[..., :1] * 16
        (folder / f"{number:02}.png").write_bytes(png(levels))


def grow(root: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in COUNT.items():
        for place, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                write(draw(random, place), folder, number % 5, number)
    return root


def make_run(outputs: Path, *overrides: str) -> Path:
    choices = {"data": "folder", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": "hinton"}
    cfg = compose(*QUICK, *overrides, f"outputs={outputs}")
    return run(cfg, choices).folder


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A folder of class folders with JPEG and PNG files: not square, turned, grey, transparent, of 16 bits."""
    return grow(tmp_path_factory.mktemp("images") / "tree")


@pytest.fixture(scope="session")
def run_folder(tree, tmp_path_factory) -> Path:
    """A run on ``tree``, whose images are stored larger than they are shown."""
    outputs = tmp_path_factory.mktemp("outputs")
    sizes = ("data.image_size=16", "data.stored_size=24", "data.crop_pct=0.9", "data.fit=pad")
    return make_run(outputs, "data=folder", f"data.root={tree}", *sizes, "train.grad_accum_steps=10")


@pytest.fixture(scope="session")
def grey(tmp_path_factory) -> tuple[Path, Path]:
    """A run on grey images in MNIST's format, and its test images as files, in their order."""
    top = tmp_path_factory.mktemp("grey")
    images = fill(top / "idx")
    folder = make_run(top, "data=fashion_mnist", f"data.root={top / 'idx'}", "train.batch_size=16")
    (top / "files").mkdir()
    for number, image in enumerate(images[40:]):
        Image.fromarray(image).save(top / "files" / f"{number}.png")
    return folder, top / "files"


@pytest.fixture
def predict(capfdbinary):
    """Return ``predict(*arguments)``, which runs the command here and returns (exit code, stdout, stderr)."""
    from kd.predict.__main__ import main

    def command(*arguments: object) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return command


@pytest.fixture
def predict_json(predict):
    """Return the same with --json; returns (exit code, the object, stderr)."""

    def command(*arguments: object) -> tuple[int, dict, str]:
        code, out, err = predict(*arguments, "--json")
        return code, json.loads(out), err

    return command
