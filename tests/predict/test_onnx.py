"""An ONNX file in place of a run: it describes itself, may have one class or a thousand, and may be wrong."""

from __future__ import annotations

import csv
import io
import sys

import numpy as np
import pytest
from PIL import Image

from kd.inference.preprocess import preprocess
from tests.predict.onnx_files import weight_of, write_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def photos(tmp_path):
    """Five images, two of them of the class "class 7"."""
    random = np.random.default_rng(0)
    files = []
    for number in range(5):
        folder = tmp_path / "photos" / f"class {7 if number < 2 else number}"
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{number}.png")
        Image.fromarray(random.integers(0, 256, (9, 14, 3), np.uint8)).save(files[-1])
    return files


def names(count):
    return tuple(f"class {number}" for number in range(count))


def test_the_file_itself_is_enough(tmp_path, photos, predict_json):
    path = tmp_path / "student.onnx"
    description = write_onnx(path, names(4), fit="squash")
    code, found, err = predict_json(path, *photos, "--top", 9, "--logits", tmp_path / "out.npz")
    assert (code, err, found["classes"]) == (0, "", list(names(4)))
    logits = np.load(tmp_path / "out.npz")["logits"]
    images = preprocess(photos, description).numpy()
    assert np.abs(logits - images.mean((2, 3)) @ weight_of(4)).max() < 1e-5
    for each, row in zip(found["pictures"], logits, strict=True):
        assert [top["class"] for top in each["top"]] == [f"class {number}" for number in np.argsort(-row)]
        assert sum(top["probability"] for top in each["top"]) == pytest.approx(1)


def test_a_thousand_classes(tmp_path, photos, predict, predict_json):
    path = tmp_path / "student.onnx"
    write_onnx(path, names(1000))
    code, out, err = predict(path, tmp_path / "photos", "--labels")
    assert (code, err) == (0, "") and "confusion matrix" not in out and "most confused" in out
    assert len(out.splitlines()) < 30 and "of 5 images" in out
    counts = np.array(predict_json(path, tmp_path / "photos", "--labels")[1]["confusion"])
    assert counts.shape == (1000, 1000) and counts.sum() == 5 and counts[7].sum() == 2


def test_one_class(tmp_path, photos, predict, predict_json):
    path = tmp_path / "student.onnx"
    write_onnx(path, ("class 7",))
    code, out, err = predict(path, photos[0].parent, "--labels")
    assert (code, err) == (0, "") and "accuracy 100.00 % (2 of 2 images)" in out and "100.00" in out.splitlines()[1]
    found = predict_json(path, photos[0].parent, "--labels")[1]
    assert (found["accuracy"], found["confusion"]) == (1.0, [[2]])


def test_names_that_csv_and_tables_must_quote(tmp_path, photos, predict):
    path, classes = tmp_path / "student.onnx", ('a, "b"', "two\nlines", "cr\ronly", "猫🐈\u200d⬛")
    write_onnx(path, classes)
    out = predict(path, *photos, "--csv", "--top", 4)[1]
    rows = list(csv.reader(io.StringIO(out, newline="")))
    assert rows[0][:3] == ["file", "class_1", "probability_1"] and len(rows) == 6
    assert {frozenset(row[1::2]) for row in rows[1:]} == {frozenset(classes)}
    table = predict(path, *photos)[1]
    assert len(table.splitlines()) == 6 and r"two\nlines" in table


def test_the_file_of_a_run_may_be_named_beside_it(run_folder, tree, tmp_path, predict, predict_json, monkeypatch):
    description = predict_json(run_folder, tree / "test")[1]
    (run_folder / "deploy").mkdir(exist_ok=True)
    classes = tuple(description["classes"])
    write_onnx(run_folder / "deploy" / "small.onnx", classes, key=description["key"])
    code, found, _ = predict_json(run_folder, tree / "test", "--model", "small.onnx", "--labels")
    assert code == 0 and len(found["pictures"]) == 30
    write_onnx(tmp_path / "other.onnx", classes, key="0123", name="another")
    code, out, err = predict(run_folder, tree / "test", "--model", tmp_path / "other.onnx")
    assert code == 2 and "was exported from another run, another," in err and not out
    code, out, err = predict(run_folder, tree / "test", "--model", "none.onnx")
    assert code == 2 and "python -m kd.export" in err and not out


def test_what_is_wrong_with_a_file_is_said_in_one_sentence(tmp_path, photos, predict, monkeypatch):
    path = tmp_path / "student.onnx"
    write_onnx(path, names(3))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    cases = {"is not a readable ONNX file": (path,)}
    write_onnx(bare := tmp_path / "bare.onnx", names(3), described=False)
    cases["does not say which network it holds"] = (bare,)
    write_onnx(few := tmp_path / "few.onnx", names(3))
    few.write_bytes(few.read_bytes().replace(b'"class 1", ', b'"clas 1",  ').replace(b'"clas 1",  ', b" " * 11))
    cases["gives answers of shape [5, 3] and names 2 classes"] = (few,)
    cases["is the network already"] = (bare, "--model", "teacher")
    cases["--device mps is not usable"] = (bare, "--device", "mps")
    for text, (file, *options) in cases.items():
        code, out, err = predict(file, *photos, *options)
        assert (code, out) == (2, "") and text in err and len(err.splitlines()) == 1, err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = predict(bare, *photos)
    assert (code, out) == (2, "") and err == 'kd.predict: bare.onnx needs onnxruntime: pip install -e ".[export]"\n'


def test_a_network_whose_numbers_are_not_finite_is_refused(tmp_path, photos, predict):
    path = tmp_path / "student.onnx"
    write_onnx(path, names(3))
    weight = weight_of(3).tobytes()
    path.write_bytes(path.read_bytes().replace(weight, np.full(9, np.nan, np.float32).tobytes()))
    code, out, err = predict(path, *photos, "--json")
    assert (code, out) == (2, "") and "gives logits that are not finite, from" in err and len(err.splitlines()) == 1
