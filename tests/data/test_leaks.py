"""Images in both training and test are counted and named, once and in every report, and refused on request."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from kd.data.datasets import fashion_mnist, oracle_mnist
from kd.data.datasets.folder import load
from kd.data.duplicates import MAX_LISTED
from kd.report.run.page import notes_on
from kd.runtime.user_warnings import KdWarning
from kd.store.store import Store
from tests.conftest import open_data
from tests.data.test_fashion_mnist import fill
from tests.data.test_folder import grow


@pytest.fixture
def tree(tmp_path):
    """8 + 12 training and 4 + 3 test images; one is in both splits and one in two classes."""
    root = grow(tmp_path / "tree", {"train/dog": 12, "train/cat": 8, "test/dog": 3, "test/cat": 4})
    shutil.copy(root / "train/cat/00.png", root / "train/dog/copy.png")
    shutil.copy(root / "train/cat/01.png", root / "test/cat/x, *y*.png")
    return root


@pytest.fixture
def opened(tmp_path):
    store = Store(tmp_path / "store")
    return lambda root, **settings: open_data(load, store, **{"root": str(root), "image_size": 12, **settings})


PAIR = "train/cat/01.png = test/cat/x, *y*.png"


@pytest.mark.filterwarnings("error")
def test_they_are_named_once_in_the_terminal_and_always_in_the_notes(tree, opened):
    with pytest.warns(KdWarning) as warned:
        first = opened(tree)
    (warning,) = warned
    assert "folder: 1 image is in both training and test" in str(warning.message)
    assert f"\n  {PAIR}\n" in str(warning.message) and "data.on_leak=error" in str(warning.message)
    assert first.notes == {
        "images_in_several_classes": 1,
        "images_in_train_and_test": 1,
        "train_and_test_pairs": [PAIR],
    }
    assert opened(tree, seed=3).notes == first.notes  # without a warning, which is an error here
    assert "images in train and test: 1\n- train and test pairs:\n  - train/cat/01.png = test/cat/x, \\*y\\*.png" in (
        notes_on(first.notes)
    )


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_refusing_changes_neither_what_is_decoded_nor_any_key(tree, opened, tmp_path):
    def decoded():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / "data").glob("*/*.npy")}

    for _ in range(2):  # when it is decoded, and when it is reused
        with pytest.raises(
            ValueError,
            match="(?s)^data.on_leak=error: folder: 1 image is in .* pixel:\n  train/cat/01.png = .*on_leak=warn",
        ):
            opened(tree, on_leak="error")
    before = decoded()
    dataset = opened(tree)
    assert decoded() == before and len(before) == 3
    (tree / "test/cat/x, *y*.png").unlink()
    clean = opened(tree, on_leak="error")
    assert clean.notes == {"images_in_several_classes": 1} and clean.fingerprint != dataset.fingerprint


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_a_set_that_was_decoded_before_names_were_kept_is_refused_by_the_count(tree, opened, tmp_path):
    opened(tree)
    (path,) = (tmp_path / "store" / "data").glob("*/meta.json")
    meta = json.loads(path.read_text())
    del meta["notes"]["train_and_test_pairs"]
    path.write_text(json.dumps(meta).ljust(path.stat().st_size))
    with pytest.raises(ValueError, match="1 image is in both training and test, pixel for pixel\n"):
        opened(tree, on_leak="error")


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_so_many_are_listed_and_the_others_counted(tmp_path, opened):
    root = grow(tmp_path / "tree", {"train/a": 40, "train/b": 3, "test/b": 2}, side=8)
    shutil.copytree(root / "train/a", root / "test/a")
    with pytest.raises(ValueError, match="40 images are in both") as raised:
        opened(root, on_leak="error")
    lines = str(raised.value).splitlines()
    assert len(lines) == MAX_LISTED + 3 and lines[MAX_LISTED + 1] == f"  and {40 - MAX_LISTED} more"
    assert all(line.split(" = ")[0].strip() == line.split(" = ")[1].replace("test", "train") for line in lines[1:21])


@pytest.mark.parametrize("module", [fashion_mnist, oracle_mnist])
def test_sets_of_arrays_name_them_by_their_place(tmp_path, module):
    fill(tmp_path / "root")
    path = tmp_path / "root" / "t10k-images-idx3-ubyte"
    train = (tmp_path / "root" / "train-images-idx3-ubyte").read_bytes()[16:]
    data = bytearray(path.read_bytes())
    data[16 + 5 * 784 : 16 + 6 * 784] = train[7 * 784 : 8 * 784]
    path.write_bytes(data)

    def opened(**settings):
        return open_data(module.load, Store(tmp_path / "store"), root=str(tmp_path / "root"), **settings)

    with pytest.warns(KdWarning, match="training image 7 = test image 5"):
        dataset = opened()
    assert dataset.notes["train_and_test_pairs"] == ["training image 7 = test image 5"]
    assert dataset.notes["images_in_several_classes"] == 1  # class 7 in training, class 5 in test
    assert (dataset.images[7] == dataset.images[45]).all() and np.ptp(dataset.images[7]) > 0
    with pytest.raises(ValueError, match="training image 7 = test image 5"):
        opened(on_leak="error")
