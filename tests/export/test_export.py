"""The door: whole exports of a run and of a file alone, refusals in a sentence, and nothing half written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
from PIL import Image

from kd.export import __main__ as door
from kd.export import publish
from kd.export.__main__ import explain
from kd.inference.safetensors_file import read_metadata, with_metadata
from tests.export.conftest import QUICK as QUICK_RUN
from tests.export.conftest import make_run

QUICK = ("--seconds", "0.01")
FLOAT = ("student.onnx", "student.pt2")
LATENCIES = {"all_threads", "one_thread"}


def export(*arguments: object) -> int:
    return door.main([*map(str, arguments), *QUICK])


def read(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def rows(report: dict) -> dict[str, dict]:
    return {file["file"]: file for file in report["files"]}


def report_text(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8")


def assert_names_no_folder(deploy: Path, folder: Path) -> None:
    """No file that may leave the machine holds the path of a folder of it."""
    for path in deploy.rglob("*"):
        assert not path.is_file() or str(folder).encode() not in path.read_bytes(), path.name


@pytest.fixture(scope="module")
def exported(run_folder) -> Path:
    """The run with its ``deploy``. int8 of a student that has hardly learnt may lose anything."""
    assert export(run_folder, "--max-drop", "50") == 0
    return run_folder


@pytest.fixture
def copied(run_folder, tmp_path) -> Path:
    """A copy of the run, in an outputs folder of its own."""
    return (
        Path(shutil.copytree(run_folder.parents[1], tmp_path / "outputs", ignore=shutil.ignore_patterns("deploy")))
        / "runs"
        / run_folder.name
    )


def refused(capsys, *arguments: object) -> str:
    """Return the one sentence with which the command refuses."""
    capsys.readouterr()
    assert export(*arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("kd.export: ") and "Traceback" not in text
    return text


def test_a_run_is_exported_whole(exported):
    deploy = exported / "deploy"
    names = {path.name for path in deploy.iterdir()}
    assert names >= {"report.json", "report.md", "student.int8.onnx", "README.md", "config.json", *FLOAT}
    assert not [name for name in os.listdir(exported) if name.startswith(".")]
    report = read(deploy)
    assert report["test_images"] == 60 and report["key"] == read_result(exported)["key"] and report["max_drop"] == 50
    for row in (report["torch"], report["folded"], *report["files"]):
        assert {"accuracy", "nll", "size_bytes", "latency_ms"} <= row.keys() and set(row["latency_ms"]) == LATENCIES
        assert 0 <= row["accuracy"] <= 1 and row["nll"] > 0
    found = rows(report)
    for name in FLOAT:
        assert found[name]["agreement"] == 1 and found[name]["ships"] is True
        assert found[name]["largest_difference"] < 1e-5
        assert found[name]["size_bytes"] == (deploy / name).stat().st_size
    assert report["folded"]["largest_difference"] < 1e-5 and report["batch_norms_folded"] == 3
    assert found["student.int8.onnx"]["size_bytes"] < found["student.onnx"]["size_bytes"]
    assert found["student.int8.onnx"]["agreement"] > 0.7


def read_result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def test_the_torch_student_is_that_of_the_run_to_the_bit(exported):
    report, result = read(exported / "deploy"), read_result(exported)
    assert report["predictions"] == {"agreement": 1.0, "largest_difference": 0.0}
    assert report["torch"]["accuracy"] == result["student"]["accuracy"]
    assert report["torch"]["nll"] == result["student"]["nll"]


def test_the_calibration_method_is_chosen_on_validation_alone(exported):
    account = read(exported / "deploy")["int8"]
    assert len(account["tried"]) == 5 and account["method"] in account["tried"]
    assert account["left_out"] == [] and set(account["float32"]) == {"accuracy", "nll"}
    count = read_result(exported)["data"]["val"]
    assert account["validation_images"] == count
    right = [count * score["accuracy"] for score in account["tried"].values()]
    assert np.allclose(right, np.round(right))


def test_a_second_export_replaces_the_first_whole(copied):
    assert export(copied, "--no-int8") == 0
    deploy = copied / "deploy"
    (deploy / "student.old.onnx").write_text("from before")
    assert export(copied, "--no-int8") == 0
    assert not (deploy / "student.old.onnx").exists() and (deploy / "report.json").is_file()
    assert "student.int8.onnx" not in rows(read(deploy))


def test_a_file_alone_is_checked_on_random_images(exported, tmp_path, capsys):
    file = Path(shutil.copy(exported / "student.safetensors", tmp_path / "mailed.safetensors"))
    assert export(file) == 0
    report = read(tmp_path / "deploy")
    assert report["test_images"] is None and "No test images were at hand" in report["tested_on"]
    assert set(rows(report)) == set(FLOAT), "there is nothing to calibrate int8 on"
    for row in report["files"]:
        assert row["ships"] is None and row["accuracy"] is None and row["agreement"] == 1
        assert "256 random images" in row["reason"]
    assert "no images to calibrate it on" in capsys.readouterr().out
    assert report["torch"]["accuracy"] is None and report["predictions"] is None


def test_what_a_file_says_of_itself_is_no_command_for_a_terminal(exported, tmp_path, capfd):
    file = Path(shutil.copy(exported / "student.safetensors", tmp_path / "mailed.safetensors"))
    metadata = {**read_metadata(file), "name": "\x1b[2Jevil\nrun\u202e"}
    metadata.pop("format", None)
    file.write_bytes(with_metadata(safetensors.torch.save(safetensors.torch.load_file(file)), metadata))
    assert export(file, "--no-int8") == 0
    out, err = capfd.readouterr()
    assert "\\x1b[2Jevil\\nrun\\u202e: folding" in out
    for text in (out, err, report_text(tmp_path / "deploy"), (tmp_path / "deploy" / "README.md").read_text("utf-8")):
        assert not {"\x1b", "\u202e"} & set(text)


@pytest.fixture(scope="module")
def pictures(run_folder, tmp_path_factory) -> Path:
    """The run's test images that ``images.npz`` shows, as class folders."""
    root = tmp_path_factory.mktemp("tested_on")
    with np.load(run_folder / "images.npz") as shown, np.load(run_folder / "predictions.npz") as predictions:
        classes = read_result(run_folder)["data"]["classes"]
        for row, image in zip(shown["row"], shown["image"], strict=True):
            folder = root / classes[predictions["target"][row]]
            folder.mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / f"{row:03}.png")
    return root


def test_a_file_alone_is_tested_on_a_folder(exported, pictures, tmp_path):
    file = Path(shutil.copy(exported / "student.safetensors", tmp_path))
    assert export(file, "--images", pictures, "--out", tmp_path / "out", "--max-drop", "100") == 0
    report, count = read(tmp_path / "out"), len(list(pictures.rglob("*.png")))
    assert count / 2 <= report["test_images"] < count
    assert set(rows(report)) == {"student.int8.onnx", *FLOAT}
    assert all(row["ships"] is True for row in report["files"]) and report["own_images"] is False
    assert report["tested_on"] == f"the folder {pictures.name}"
    assert f"images of the folder {pictures.name.replace('_', chr(92) + '_')}. Measured on " in report_text(
        tmp_path / "out"
    )
    assert_names_no_folder(tmp_path / "out", pictures.parent)


def test_a_run_whose_data_are_gone_is_exported_without_test_pictures(copied, tmp_path):
    config = copied / "config.yaml"
    text = config.read_text(encoding="utf-8")
    target = "kd.data.datasets.scenes.dataset.load"
    gone = text.replace(f"_target_: {target}", f"_target_: kd.data.datasets.folder.load\n  root: {tmp_path}/nowhere")
    for name in ("train_images", "test_images", "drawing_seed", "label_noise"):
        gone = "\n".join(line for line in gone.splitlines() if not line.startswith(f"  {name}:"))
    config.write_text(gone, encoding="utf-8")
    with pytest.warns(UserWarning, match=f"No test images were at hand.*{tmp_path}/nowhere"):
        assert export(copied) == 0
    report = read(copied / "deploy")
    assert report["test_images"] is None and report["own_images"] is None
    assert "(the data of the run cannot be read here)" in report["tested_on"]
    assert "tests on a folder for each class. Measured on " in report_text(copied / "deploy")
    assert_names_no_folder(copied / "deploy", tmp_path)


def test_data_that_have_changed_are_not_tested_on(copied):
    config = copied / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("drawing_seed: 0", "drawing_seed: 1").replace("test_images: 60", "test_images: 48"))
    with pytest.warns(UserWarning, match="the data have changed"):
        assert export(copied) == 0
    assert read(copied / "deploy")["test_images"] is None


def test_a_run_folder_outside_of_its_outputs_is_tested_on_the_same_pictures(exported, tmp_path):
    moved = Path(shutil.copytree(exported, tmp_path / "sent"))
    config = moved / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace(f"outputs: {exported.parents[1]}", f"outputs: {tmp_path}/not-there"))
    assert export(moved, "--no-int8") == 0
    assert read(moved / "deploy")["predictions"]["largest_difference"] == 0
    assert sorted(os.listdir(tmp_path)) == ["sent"]


def test_an_exported_folder_and_a_method_that_extends_its_student_are_exported_too(tmp_path):
    run = make_run(tmp_path / "outputs", "kd=simkd", "train.student.epochs=1")
    assert export(run, "--max-drop", "100") == 0
    report = read(run / "deploy")
    assert report["predictions"]["largest_difference"] == 0 and rows(report)["student.onnx"]["agreement"] == 1
    assert export(run / "deploy", "--no-int8") == 0
    again = read(run / "deploy" / "deploy")
    assert again["key"] == report["key"] and again["test_images"] is None


ODD = ("a, b", 'the "street"', "🦉 owl", "line|pipe")


def test_classes_of_any_name(tmp_path):
    random = np.random.default_rng(0)
    for name in ODD:
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(14):
            pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    settings = [each for each in QUICK_RUN if not each.startswith(("data.train_images", "data.test_images"))]
    run = make_run(tmp_path / "outputs", "data=folder", f"data.root={tmp_path / 'images'}", base=settings)
    assert export(run, "--max-drop", "100") == 0
    report = read(run / "deploy")
    assert report["classes"] == sorted(ODD) and report["predictions"]["agreement"] == 1
    assert all(row["ships"] for row in report["files"])
    for name in ("student.onnx", "student.int8.onnx"):
        session = onnxruntime.InferenceSession(str(run / "deploy" / name))
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == sorted(ODD)


def ruin(run: Path) -> None:
    """Give the channels between two layers of a student very different sizes: the same function to the bit."""
    file = run / "student.safetensors"
    metadata, tensors = read_metadata(file), safetensors.torch.load_file(file)
    count = len(tensors["network.stages.1.1.weight"])
    scale = 2.0 ** (14 * np.arange(count) // count)
    scale = safetensors.torch.torch.from_numpy(scale).float()
    for name in ("weight", "bias"):
        tensors[f"network.stages.1.1.{name}"] *= scale
    tensors["network.stages.2.0.weight"] /= scale[:, None, None]
    metadata.pop("format", None)
    file.write_bytes(with_metadata(safetensors.torch.save(tensors), metadata))


def test_layers_that_do_harm_are_named_and_left_out_with_auto(tmp_path):
    run = make_run(tmp_path / "outputs", "train.student.epochs=20", "student.width=0.5", "data.train_images=400")
    ruin(run)
    assert export(run) == 1
    report = read(run / "deploy")
    row = rows(report)["student.int8.onnx"]
    assert report["predictions"]["largest_difference"] == 0, "the same function to the bit"
    assert row["ships"] is False and row["agreement"] < 0.9
    named = report["int8"]["suggested"]
    assert {"stages.1.0", "stages.2.0"} & set(named) and ", ".join(named) in row["reason"] and "--auto" in row["reason"]
    assert report["int8"]["left_out"] == []
    assert export(run, "--auto", "--max-drop", "3") == 0
    report = read(run / "deploy")
    row = rows(report)["student.int8.onnx"]
    assert row["ships"] is True and report["int8"]["left_out"] == report["int8"]["suggested"] != []
    assert "stay float32" in row["reason"]


# refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-drop", "0"], "--max-drop must be a number of points in (0, 100]"),
        (["--max-drop", "nan"], "--max-drop must be"),
        (["--seconds", "0"], "--seconds must be"),
        (["--auto", "--no-int8"], "say only one"),
        (["--ort-web", "somewhere"], "add --page"),
        (["--images", "/nowhere"], "is not a folder"),
        (["--page", "--ort-web", "/nowhere"], "onnxruntime-web"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_sentence(run_folder, capsys, arguments, words):
    capsys.readouterr()
    assert door.main([str(run_folder), *arguments]) == 2
    text = capsys.readouterr().err
    assert words in text and text.startswith("kd.export: ") and text.count("\n") == 1


@pytest.mark.parametrize("name", door.NEEDED)
def test_a_missing_extra_is_named(name, monkeypatch, capsys, run_folder):
    real = door.find_spec
    monkeypatch.setattr(door, "find_spec", lambda each: None if each == name else real(each))
    text = refused(capsys, run_folder)
    assert text == f'kd.export: {name} must be installed: pip install -e ".[export]"\n'


def test_runs_that_are_none_are_refused(capsys, tmp_path):
    assert "there is no" in refused(capsys, tmp_path / "nowhere")
    assert "is not the folder of a run" in refused(capsys, tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    assert "is not a readable .safetensors file" in refused(capsys, tmp_path / "a.safetensors")
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize("name", ["predictions.npz", "config.yaml"])
@pytest.mark.parametrize("content", [None, b"\x00\xffrubbish: ["])
def test_a_damaged_run_is_refused(copied, capsys, name, content):
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content)
    assert name in refused(capsys, copied)
    assert sorted(p.name for p in copied.iterdir() if p.name.startswith((".", "deploy"))) == []


def test_predictions_of_another_student_are_refused(copied, capsys):
    with np.load(copied / "predictions.npz") as arrays:
        found = dict(arrays)
    found["student"] = -found["student"]
    np.savez(copied / "predictions.npz", **found)
    assert "belong to different runs" in refused(capsys, copied)
    found["student"] = found["student"][:, :2]
    np.savez(copied / "predictions.npz", **found)
    assert "of another student" in refused(capsys, copied)


@pytest.mark.parametrize("target", ["os.system", "kd.store.files.os.system", "kd.data.datasets.folder.Store"])
def test_code_that_a_foreign_run_names_is_not_run(copied, capsys, target, tmp_path):
    config = copied / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("kd.data.datasets.scenes.dataset.load", target), encoding="utf-8")
    assert f"{target}, which is code outside kd" in refused(capsys, copied)


def test_pictures_in_folders_that_are_no_classes_are_refused(run_folder, pictures, capsys, tmp_path):
    wrong = Path(shutil.copytree(pictures, tmp_path / "wrong"))
    (wrong / "forest").rename(wrong / "forrest")
    assert "forrest is no class of the student; did you mean forest?" in refused(capsys, run_folder, "--images", wrong)
    (wrong / "forrest").rename(wrong / "forest")
    (wrong / "forest" / "broken.png").write_bytes(b"no picture")
    assert "broken.png is not an image" in refused(capsys, run_folder, "--images", wrong)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(capsys, run_folder, "--images", tmp_path / "empty")


# nothing half written

REPORT = '{"key": "", "files": [], "torch": {}, "folded": {}}'


def test_a_folder_of_other_files_is_never_replaced(run_folder, capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds mine.txt, which no export wrote" in refused(capsys, run_folder, "--out", tmp_path)
    assert "is a file" in refused(capsys, run_folder, "--out", tmp_path / "mine.txt")
    (tmp_path / "report.json").write_text(REPORT)
    assert "holds mine.txt, which no export wrote" in refused(capsys, run_folder, "--out", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "report.json").write_text("{}")
    assert "holds report.json, which no export wrote" in refused(capsys, run_folder, "--out", tmp_path)


def test_the_file_of_a_run_that_is_here_stands_for_its_run(copied):
    assert export(copied / "student.safetensors", "--no-int8") == 0
    assert read(copied / "deploy")["test_images"] == read_result(copied)["data"]["test"]


def test_an_interrupt_after_the_folder_is_there_says_so(copied, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kd.export.__main__.exit_now", lambda: None)
    monkeypatch.setattr("kd.tracking.deploy.log_deploy", interrupt)
    assert export(copied, "--no-int8") == 130
    assert "deploy is complete" in capsys.readouterr().err
    monkeypatch.setattr("kd.export.write.export", interrupt)
    assert export(copied, "--no-int8") == 130
    assert "nothing was written" in capsys.readouterr().err and (copied / "deploy" / "report.json").is_file()


def test_an_error_of_the_system_names_what_the_user_named():
    place = Path("runs/x/deploy")
    hidden = OSError(30, "Read-only file system", "/runs/x/.deploy.1-ab/student.onnx")
    assert explain(hidden, place) == "runs/x/deploy: Read-only file system"
    assert explain(PermissionError(13, "Permission denied", "a.npz"), place) == "a.npz: Permission denied"
    assert explain(FileNotFoundError("there is no run"), place) == "there is no run"


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path):
    deploy = tmp_path / "deploy"
    with publish.replaced(deploy) as folder:
        (folder / "report.json").write_text(REPORT + " ")
        assert not deploy.exists(), "it appears when it is complete"
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), publish.replaced(deploy) as folder:
            (folder / "report.json").write_text("second")
            raise error
        assert (deploy / "report.json").read_text() == REPORT + " " and os.listdir(tmp_path) == ["deploy"]
    with publish.replaced(deploy) as folder:
        (folder / "report.json").write_text("third")
    assert (deploy / "report.json").read_text() == "third" and os.listdir(tmp_path) == ["deploy"]


def test_what_a_killed_export_left_is_removed(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left, at_work = tmp_path / f".deploy.{int(ended.stdout)}-abcd", tmp_path / f".deploy.{os.getpid()}-abcd"
    for folder in (left, at_work):
        folder.mkdir()
    with publish.replaced(tmp_path / "deploy") as folder:
        (folder / "report.json").write_text("whole")
    assert sorted(os.listdir(tmp_path)) == [at_work.name, "deploy"]
