"""python -m kd.predict: the bits of the run, all that can be wrong with files, and every form of the answers."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from kd.evaluation.metrics import probabilities
from tests.predict.conftest import CLASSES, COUNT


@pytest.mark.parametrize("role", ["student", "teacher", "baseline"])
def test_the_logits_on_the_test_images_are_the_runs_own_bits(run_folder, tree, tmp_path, predict_json, role):
    recorded = np.load(run_folder / "predictions.npz")
    code, found, err = predict_json(
        run_folder, tree / "test", "--labels", "--model", role, "--logits", tmp_path / "out.npz"
    )
    assert (code, err) == (0, "")
    ours = np.load(tmp_path / "out.npz")
    assert ours["logits"].dtype == np.float32 and ours["logits"].tobytes() == recorded[role].tobytes()
    assert (ours["target"] == recorded["target"]).all()
    assert ours["file"].tolist() == [each["file"] for each in found["pictures"]]
    chances = probabilities(recorded[role])
    for each, chance, target in zip(found["pictures"], chances, recorded["target"], strict=True):
        assert each["label"] == found["classes"][target]
        assert [top["probability"] for top in each["top"]] == sorted(chance, reverse=True)
        assert each["top"][0]["class"] == found["classes"][chance.argmax()]
    result = json.loads((run_folder / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(result[role]["accuracy"]) and found["key"] == result["key"]
    assert found["confusion"] == result[role]["confusion"] and found["classes"] == result["data"]["classes"]
    assert np.sum(found["confusion"], 1).tolist() == [COUNT["test"]] * len(CLASSES)


def test_grey_images_too(grey, tmp_path, predict):
    folder, files = grey
    assert predict(folder, files, "--csv", "--logits", tmp_path / "out.npz")[0] == 0
    ours, recorded = np.load(tmp_path / "out.npz"), np.load(folder / "predictions.npz")
    assert ours["logits"].tobytes() == recorded["student"].tobytes() and "target" not in ours


def test_files_that_are_no_images_are_named_and_left_out(run_folder, tree, tmp_path, predict, predict_json):
    good = sorted((tree / "test" / CLASSES[0]).iterdir())[:3]
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "cut.jpg").write_bytes(good[0].read_bytes()[:300])
    bad = [tmp_path / name for name in ("text.jpg", "empty.png", "pipe.png", "cut.jpg", "none.png", "two\nlines.png")]
    code, found, err = predict_json(run_folder, bad[0], good[0], *bad[1:4], *good[1:], *bad[4:])
    assert code == 1 and [each["file"] for each in found["pictures"]] == [str(file) for file in good]
    assert [each["file"] for each in found["failed"]] == [str(file) for file in bad]
    reasons = [each["reason"] for each in found["failed"]]
    assert reasons[:3] == ["not an image of a known format", "the file is empty", "a pipe, not a file"]
    assert "truncated" in reasons[3].lower() and reasons[4] == "No such file or directory"
    lines = err.splitlines()
    assert lines[0] == "kd.predict: 6 of 9 files cannot be read as images:" and len(lines) == 7
    assert r"two\nlines.png: No such file" in lines[-1]
    alone = predict_json(run_folder, *good)[1]["pictures"]
    assert found["pictures"] == alone  # the same batch, so the same bits
    code, out, err = predict(run_folder, bad[0], "--csv")
    assert code == 1 and out.splitlines() == ["file,class_1,probability_1,class_2,probability_2,class_3,probability_3"]
    assert predict(run_folder, bad[0])[:2] == (1, "")


def test_a_bad_file_among_labelled_images_does_not_count(run_folder, tree, tmp_path, predict_json):
    copy = shutil.copytree(tree / "test", tmp_path / "test")
    (copy / CLASSES[1] / "notes.txt").write_text("text")
    _, whole, _ = predict_json(run_folder, tree / "test", "--labels")
    code, found, _ = predict_json(run_folder, copy, "--labels")
    assert code == 1 and len(found["failed"]) == 1
    assert (found["accuracy"], found["confusion"]) == (whole["accuracy"], whole["confusion"])


def test_a_file_that_is_given_twice_has_two_answers(run_folder, tree, predict):
    one, two = sorted((tree / "test" / CLASSES[2]).iterdir())[:2]
    out = predict(run_folder, two, one, two, "--csv", "--top", 1)[1]
    rows = list(csv.reader(io.StringIO(out)))[1:]
    assert [row[0] for row in rows] == [str(two), str(one), str(two)] and rows[0][1:] == rows[2][1:]


def test_the_weights_alone_give_the_same(run_folder, tree, tmp_path, predict_json):
    shutil.copy(run_folder / "student.safetensors", tmp_path / "sent.safetensors")
    ours = predict_json(tmp_path / "sent.safetensors", tree / "test", "--labels")[1]
    theirs = predict_json(run_folder, tree / "test", "--labels")[1]
    assert {**ours, "model": ""} == {**theirs, "model": ""}


def test_answers_go_to_a_file_whole(run_folder, tree, tmp_path, predict):
    code, out, err = predict(run_folder, tree / "test", "--json", "--out", tmp_path / "answers.json")
    assert (code, out, err) == (0, "", "")
    assert len(json.loads((tmp_path / "answers.json").read_text("utf-8"))["pictures"]) == 30
    assert predict(run_folder, tree / "test", "--out", "/dev/null", "--logits", "/dev/null") == (0, "", "")
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null")
    predict(run_folder, tree / "test", "--labels", "--out", tmp_path / "table.txt")
    assert "accuracy" in (tmp_path / "table.txt").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "table.txt"]


@pytest.mark.parametrize("option", ["--out", "--logits"])
def test_a_place_that_cannot_be_written_is_named_as_the_user_did(option, run_folder, tree, tmp_path, predict):
    long = tmp_path / (
        "a" * 250
    )  # the file beside it, under a longer name, is refused; so is any in a read-only folder
    code, out, err = predict(run_folder, tree / "test", "--csv", option, long)
    assert (code, err) == (2, f"kd.predict: {long} cannot be written: File name too long\n")
    if os.geteuid():
        tmp_path.chmod(0o500)
        code, out, err = predict(run_folder, tree / "test", "--csv", option, tmp_path / "out")
        tmp_path.chmod(0o700)
        assert (code, err) == (2, f"kd.predict: {tmp_path / 'out'} cannot be written: Permission denied\n")
    assert not list(tmp_path.iterdir())


def test_options_stand_anywhere(run_folder, tree, predict):
    one, two = sorted((tree / "test" / CLASSES[2]).iterdir())[:2]
    plain = predict(run_folder, one, two, "--csv", "--top", 2)
    assert predict("--csv", run_folder, one, "--top", 2, two) == plain
    assert predict(run_folder, "--top=2", one, "--csv", two) == plain


def refusals(run_folder, tree, tmp_path):
    test = tree / "test"
    (tmp_path / "empty").mkdir()
    (tmp_path / "dogs").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "dogs" / "1.png")
    damaged = shutil.copytree(run_folder, tmp_path / "damaged")
    weights = (damaged / "student.safetensors").read_bytes()
    (damaged / "student.safetensors").write_bytes(weights[: len(weights) // 2])
    return {
        (run_folder, tmp_path / "empty"): "there is no file in the folder",
        (run_folder, tmp_path / "*.tif"): "no file matches",
        (run_folder, tmp_path / "dogs", "--labels"): "lies in the folder 'dogs', which is no class",
        (tmp_path / "nowhere", test): "there is no",
        (tmp_path / "empty", test): "is not the folder of a run",
        (tmp_path / "dogs" / "1.png", test): "is not a readable .safetensors file",
        (damaged, test): "student.safetensors",
        (damaged / "student.safetensors", test): "is not a readable .safetensors file",
        (run_folder, test, "--model", "techer"): "did you mean teacher?",
        (run_folder, test, "--out", tmp_path / "no" / "x"): "there is no folder",
        (run_folder, test, "--logits", tmp_path): "is a folder: name a file",
    }


def test_what_cannot_be_done_is_refused_in_one_sentence(run_folder, tree, tmp_path, predict):
    for arguments, text in refusals(run_folder, tree, tmp_path).items():
        code, out, err = predict(*arguments)
        assert (code, out) == (2, "") and text in err and err.startswith("kd.predict: "), (arguments, err)
        assert len(err.splitlines()) == 1, err


@pytest.mark.parametrize("wrong", [["--top", "0"], ["--batch", "x"], ["--csv", "--json"], ["--device", "tpu"]])
def test_wrong_options_are_refused(run_folder, tree, predict, capfdbinary, wrong):
    with pytest.raises(SystemExit) as end:
        predict(run_folder, tree, *wrong)
    assert end.value.code == 2 and b"error: argument" in capfdbinary.readouterr().err
