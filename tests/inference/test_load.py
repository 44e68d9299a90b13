"""``kd.load``: the networks of whole runs, loaded without Hydra, give the bits that the runs wrote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kd
from kd.inference.preprocess import shown
from tests.conftest import CONF, TINY, compose, weights_in

CLASSES = ("a, b", 'say "hi"', "😀 \n smile")
QUICK = ["teacher=tiny_cnn", "teacher.width=0.5", "report=false"]


def draw(path: Path, number: int, exif: int | None = None) -> None:
    """Write a picture that no fit leaves as it is: not square, in one of several modes and formats."""
    generator = np.random.default_rng(number)
    pixels = generator.integers(0, 256, (40 + 3 * (number % 5), 55, 3), np.uint8)
    image = Image.fromarray(pixels).resize((55, 40 + number % 7))
    mode = ("RGB", "L", "RGBA", "P")[number % 4]
    suffix = ".jpg" if mode in ("RGB", "L") else ".png"
    more = {"exif": Image.Exif()} if suffix == ".jpg" else {}
    if more:
        more["exif"][0x0112] = exif or 1 + number % 8
    image.convert(mode).save(path.with_suffix(suffix), **more)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Class folders with names that need quoting, of pictures that are not square."""
    place = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 20), ("test", 7)):
        for label, name in enumerate(CLASSES):
            folder = place / split / name.replace("\n", " ")
            folder.mkdir(parents=True)
            for number in range(count):
                draw(folder / f"{number:03}", 100 * label + number + 1000 * (split == "test"))
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    return of_folder(tmp_path_factory.mktemp("run"), pictures)


def of_folder(outputs: Path, pictures: Path, *more: str) -> Path:
    """Make a run on the pictures; return its folder."""
    from kd.pipeline.execute import run as execute

    settings = [f"data.root={pictures}", "data.image_size=24", "data.val_fraction=0.2", "student.width=0.25"]
    settings += ["train.batch_size=16", "teacher.allow_weak=true", "train.teacher.epochs=1", "train.student.epochs=1"]
    settings += ["latency.seconds=0.02", "latency.batch=4", "tracking=disabled", f"outputs={outputs}"]
    named = {"data": "folder", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": "hinton"}
    return execute(compose("data=folder", *QUICK, *settings, *more), named).folder


def logits_of(model: kd.inference.model.Model, files) -> np.ndarray:
    """Return the logits of files as the run computed them: batches of one size, one memory format."""
    from kd.evaluation.predict import predict
    from kd.interfaces import Batch
    from kd.runtime.device import resolve_device

    device, size = resolve_device("cpu", "float32", model.description.channels_last), model.description.eval_batch
    nothing = torch.zeros(0)
    batches = [Batch(model.preprocess(files[i : i + size]), nothing, nothing) for i in range(0, len(files), size)]
    return predict(device.to_device(model), batches, device)


def test_files_of_any_kind_give_the_bits_of_the_run(folder, pictures):
    arrays = np.load(folder / "predictions.npz")
    files = sorted((pictures / "test").rglob("*.*g"))
    for role in ("student", "teacher", "baseline"):
        model = kd.load(folder, role)
        assert not model.training and model.image_size == 24
        assert list(model.classes) == json.loads((folder / "result.json").read_text())["data"]["classes"]
        assert np.array_equal(logits_of(model, files), arrays[role])


def test_pixels_that_the_run_crops_and_grey_data_are_the_run_s(tmp_path, pictures):
    """Stored larger than shown; and IDX-like grey images, whose files may be colour."""
    made = of_folder(tmp_path, pictures, "data.stored_size=32", "data.crop_pct=0.8", "data.fit=pad")
    files = sorted((pictures / "test").rglob("*.*g"))
    model = kd.load(made)
    assert (model.description.stored_size, model.description.fit) == (32, "pad")
    assert np.array_equal(logits_of(model, files), np.load(made / "predictions.npz")["student"])


def test_an_image_of_pillow_is_prepared_like_its_file(folder, pictures):
    model = kd.load(folder)
    files = sorted((pictures / "test").rglob("*.*g"))
    for file in files[:8]:
        with Image.open(file) as image:
            assert torch.equal(model.preprocess(image), model.preprocess(file))
            image.load()  # it is still open
    assert model.preprocess(str(files[0])).shape == (1, 3, 24, 24)
    assert torch.equal(model.preprocess(files[:3])[2:], model.preprocess(files[2]))


def test_a_file_alone_is_enough_in_a_process_without_hydra(folder, pictures, tmp_path):
    file = shutil.copy(folder / "student.safetensors", tmp_path / "from a friend.safetensors")
    picture = next((pictures / "test").rglob("*.jpg"))
    code = f"""
import sys
sys.modules["hydra"] = sys.modules["omegaconf"] = None  # importing them fails
import kd, torch
state = torch.get_rng_state()
model = kd.load({str(file)!r})
assert torch.equal(state, torch.get_rng_state()), "the caller's random numbers"
print(model(model.preprocess({str(picture)!r})).tolist(), list(model.classes) == {[*CLASSES]!r})
"""
    environment = {"PYTHONPATH": str(CONF.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = kd.load(folder)
    assert done.stdout.split("]]")[0] + "]]" == str(model(model.preprocess(picture)).tolist())
    assert (kd.load(file).description == model.description) and len(model.description.key) == 64


def test_the_file_of_a_student_has_the_same_bytes_in_every_process(folder, pictures, tmp_path):
    other = of_folder(tmp_path, pictures)
    assert (other / "student.safetensors").read_bytes() == (folder / "student.safetensors").read_bytes()
    (store,) = [
        path
        for path in (folder.parents[1] / "students").glob("*/network.safetensors")
        if path.read_bytes() == weights_in(folder / "student.safetensors")
    ]
    assert store.stat().st_size < (folder / "student.safetensors").stat().st_size


def test_a_run_of_an_earlier_version_gets_its_description_when_it_is_reused(pictures, tmp_path):
    folder = of_folder(tmp_path, pictures)
    whole = (folder / "student.safetensors").read_bytes()
    (folder / "models.json").unlink()
    (folder / "sizes.json").unlink()
    (folder / "student.safetensors").write_bytes(weights_in(folder / "student.safetensors"))
    with pytest.raises(ValueError, match="was made by an earlier kd and has no models.json: run its command again"):
        kd.load(folder)
    with pytest.raises(ValueError, match="does not say which network it holds"):
        kd.load(folder / "student.safetensors")
    assert of_folder(tmp_path, pictures) == folder
    assert (folder / "student.safetensors").read_bytes() == whole and kd.load(folder)


SMALL_TEACHER = ("teacher=tiny_cnn", "teacher.width=0.5")
NETWORKS = {
    "simkd": [*SMALL_TEACHER, "kd=simkd"],
    "ensemble": [*SMALL_TEACHER, "teacher.ensemble=[0,{teacher:tiny_cnn,width:0.3,seed:4}]"],
    "attention, own size": ["teacher=resnet18", "attention=cbam", "teacher.image_size=24"],
    "timm": [*SMALL_TEACHER, "student=timm", "student.name=resnet10t"],
    "two heads": [*SMALL_TEACHER, "student=timm", "student.name=deit_tiny_distilled_patch16_224", "kd=deit"],
}


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_every_kind_of_network_comes_back(tmp_path, settings):
    from kd.pipeline.execute import run

    tiny = [each for each in TINY if "student=timm" not in settings or not each.startswith("student.width")]
    tiny += ["train.teacher.epochs=1", "train.student.epochs=1", "latency.seconds=0.02", "latency.batch=4"]
    tiny += ["report=false", "tracking=disabled", f"outputs={tmp_path}"]
    folder = run(compose(*settings, *tiny), {"data": "scenes", "teacher": "t", "student": "s", "kd": "k"}).folder
    arrays = np.load(folder / "predictions.npz")
    (stored,) = tmp_path.glob("*/*/images.npy")
    for role in ("student", "teacher", "baseline"):
        model = kd.load(folder, role)
        images = shown(np.load(stored)[arrays["index"]], model.description)
        with torch.inference_mode():
            found = model.to(memory_format=torch.channels_last)(images).numpy()
        np.testing.assert_allclose(found, arrays[role], rtol=1e-4, atol=1e-5, err_msg=role)


@pytest.mark.parametrize("page", ["README.md", "docs/use-a-student.md"])
def test_the_lines_of_the_readme_work(folder, pictures, page, capsys):
    text = (CONF.parent / page).read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import kd\n.*?)```", text, re.DOTALL)
    assert len(lines.splitlines()) <= 10
    files = [str(path) for path in sorted((pictures / "test").rglob("*.jpg"))[:2]]
    lines = lines.replace('"outputs/runs/NAME"', repr(str(folder))).replace('["a.jpg", "b.png"]', repr(files))
    exec(compile(lines, page, "exec"), {})
    said = capsys.readouterr().out
    assert said.count("%") == 2 and all(file in said for file in files)
