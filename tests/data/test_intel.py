"""Intel's layout as Kaggle packs it, nested once and twice, and the messages if it is missing."""

from __future__ import annotations

import shutil
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kd.data.datasets.intel import HANDLE, load
from kd.store.store import Store
from tests.conftest import open_data

CLASSES = ("buildings", "forest", "glacier", "mountain", "sea", "street")


def grow(root, nested):
    generator = np.random.default_rng(0)
    for split, count in (("seg_train", 4), ("seg_test", 2), ("seg_pred", 1)):
        for name in CLASSES if split != "seg_pred" else ["."]:
            folder = root / split / (split if nested else ".") / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 256, (15, 15, 3), np.uint8)).save(folder / f"{number}.jpg")
    return root


def test_both_layouts_are_the_same_data_set(tmp_path):
    store = Store(tmp_path / "store")
    twice, once = (
        open_data(load, store, root=str(grow(tmp_path / name, nested)))
        for name, nested in (("twice", True), ("once", False))
    )
    assert twice.classes == CLASSES and twice.images.shape == (36, 28, 28, 3) and len(twice.test) == 12
    assert twice.fingerprint == once.fingerprint and twice.name == "intel"


def test_a_wrong_root_says_what_it_should_hold(tmp_path):
    with pytest.raises(FileNotFoundError, match="seg_train") as raised:
        open_data(load, Store(tmp_path), root=str(tmp_path))
    assert "kaggle.com/datasets/puneet6060" in str(raised.value)


def test_what_is_wrong_below_the_root_is_named_with_it(tmp_path):
    root = grow(tmp_path / "tree", False)
    shutil.rmtree(root / "seg_test" / "sea")
    with pytest.raises(
        ValueError, match=f"^data.root={root}: the two splits have different classes: .*seg_train: sea;"
    ):
        open_data(load, Store(tmp_path / "store"), root=str(root))


def test_without_a_root_kaggle_delivers(tmp_path, monkeypatch):
    handles = []

    def deliver(handle):
        handles.append(handle)
        return str(grow(tmp_path / "cache", True))

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=deliver))
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", "set in Kaggle's own notebooks, so no server is contacted")
    assert len(open_data(load, Store(tmp_path / "store"), image_size=15).test) == 12
    assert handles == [HANDLE]


def test_without_a_network_two_lines_say_what_to_do(tmp_path, monkeypatch):
    def refuse(handle):
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=refuse))
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", "set, so no server is contacted")
    with pytest.raises(FileNotFoundError) as raised:
        open_data(load, Store(tmp_path))
    missing, remedy = str(raised.value).splitlines()
    assert "no route to host" in missing and "data.root=" in remedy and "https://www.kaggle.com" in remedy


def test_a_server_that_says_nothing_is_not_waited_for(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("kd.data.datasets.intel.SERVER", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(FileNotFoundError, match="no answer within 5 seconds(?s:.*)data.root="):
            open_data(load, Store(tmp_path))
