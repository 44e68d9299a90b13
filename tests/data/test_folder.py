"""Class folders: layouts that are read, trees that are refused, and what a second run reuses."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from kd.data.datasets.folder import load
from kd.data.loader import Loader
from kd.store.store import Store
from tests.conftest import open_data
from tests.data.test_intel import grow as intel_tree


def grow(root, counts, seed=0, side=12):
    """Write ``counts`` = {"train/cat": 5} as PNG noise, and return the root."""
    generator = np.random.default_rng(seed)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            noise = generator.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(noise).save(root / folder / f"{number:02}.png")
    return root


@pytest.fixture
def tree(tmp_path):
    return grow(tmp_path / "tree", {"train/dog": 12, "train/cat": 8, "test/dog": 3, "test/cat": 4})


@pytest.fixture
def opened(tmp_path):
    """Return ``opened(root, **settings)``, which opens a tree in one store."""
    store = Store(tmp_path / "store")
    return lambda root, **settings: open_data(load, store, **{"root": str(root), "image_size": 12, **settings})


def published(tmp_path):
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "data").glob("*/*")}


def test_the_splits_classes_and_pixels_are_those_of_the_tree(tree, opened):
    dataset = opened(tree, val_fraction=0.25)
    assert dataset.classes == ("cat", "dog") and dataset.images.shape == (27, 12, 12, 3)
    assert dataset.targets.tolist() == [0] * 8 + [1] * 12 + [0] * 4 + [1] * 3
    assert dataset.test.tolist() == list(range(20, 27))
    assert sorted([*dataset.train, *dataset.val]) == list(range(20))
    assert np.bincount(dataset.targets[dataset.val]).tolist() == [2, 3]
    assert (dataset.images[9] == np.asarray(Image.open(tree / "train/dog/01.png"))).all()
    assert not dataset.notes


def test_the_split_depends_on_its_seed_alone(tree, opened):
    one, same, other = opened(tree, seed=1), opened(tree, seed=1, image_size=10), opened(tree, seed=2)
    assert one.val.tolist() == same.val.tolist() != other.val.tolist()
    assert len({one.fingerprint, same.fingerprint, other.fingerprint}) == 3


def test_other_names_of_the_splits(tmp_path, opened):
    root = grow(tmp_path / "tree", {"training/a": 3, "training/b": 3, "val/a": 1, "val/b": 1})
    assert len(opened(root, train_dir="training", test_dir="val").test) == 2


def test_a_test_part_is_set_aside_where_the_root_holds_the_classes(tmp_path, opened):
    root = grow(tmp_path / "tree", {"a": 10, "b": 20})
    dataset = opened(root, test_fraction=0.3, val_fraction=0.2)
    assert np.bincount(dataset.targets[dataset.test]).tolist() == [3, 6]
    parts = [*dataset.train, *dataset.val, *dataset.test]
    assert sorted(parts) == list(range(30))
    assert len({dataset.images[i].tobytes() for i in parts}) == 30  # every file once
    again, other = opened(root, test_fraction=0.3, val_fraction=0.2), opened(root, test_fraction=0.3, seed=1)
    assert (again.images[again.test] == dataset.images[dataset.test]).all()
    assert (other.images[other.test] != dataset.images[dataset.test]).any()


def test_the_second_start_finds_what_the_first_decoded(tmp_path, tree, opened):
    first = opened(tree)
    before = published(tmp_path)
    assert opened(tree).fingerprint == first.fingerprint
    assert opened(tree, seed=5, val_fraction=0.3).fingerprint != first.fingerprint
    assert published(tmp_path) == before


def test_a_moved_or_touched_tree_is_the_same_data_set(tmp_path, tree, opened):
    first = opened(tree)
    before = published(tmp_path)
    for file in tree.rglob("*.png"):
        os.utime(file, (0, 0))
    assert opened(tree).fingerprint == first.fingerprint
    shutil.move(tree, tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere").fingerprint == first.fingerprint
    assert published(tmp_path) == before


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_changed_pixel_is_another_data_set(tree, opened, split):
    first = opened(tree)
    file = tree / split / "cat" / "01.png"
    pixels = np.array(Image.open(file))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(file)
    assert opened(tree).fingerprint != first.fingerprint


def test_hidden_files_and_leftovers_of_desktops_are_ignored(tree, opened):
    before = opened(tree)
    (tree / "train" / "README.txt").write_text("beside the classes")
    (tree / "train" / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._00.png"):
        (tree / "train" / "cat" / name).write_bytes(b"x")
    assert opened(tree).fingerprint == before.fingerprint


def test_bad_files_are_named_and_can_be_left_out(tree, opened):
    (tree / "train" / "cat" / "03.png").write_bytes(b"")
    (tree / "test" / "dog" / "notes.txt").write_text("not an image")
    with pytest.raises(ValueError, match=r"(?s)2 of 28 files.*train/cat/03.png.*test/dog/notes.txt"):
        opened(tree)
    dataset = opened(tree, on_bad_file="skip")
    assert dataset.targets.tolist() == [0] * 7 + [1] * 12 + [0] * 4 + [1] * 3 and len(dataset.test) == 7
    assert dataset.notes["bad_files"] == 2
    assert (dataset.images[3] == np.asarray(Image.open(tree / "train/cat/04.png"))).all()


def test_leaving_bad_files_out_may_not_empty_a_class(tree, opened):
    for file in (tree / "test" / "cat").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"test files that can be read: cat \(0\)"):
        opened(tree, on_bad_file="skip")


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ({}, {}, "at least 2 class folders"),
        ({"a": 9}, {}, "at least 2 class folders are needed, .* holds a"),
        ({"train/a": 3, "test/a": 3}, {}, "at least 2 class folders"),
        ({"train/a": 3, "train/b": 0, "test/a": 1, "test/b": 1}, {}, "without any file .*: b"),
        ({"train/a": 3, "train/b": 1, "test/a": 1, "test/b": 1}, {}, r"at least 2 per class .*: b \(1\)"),
        ({"a": 2, "b": 5}, {}, r"at least 3 per class .*: a \(2\)"),
        (
            {"train/a": 3, "train/b": 3, "test/a": 1, "test/c": 1},
            {},
            "different classes: only in .*train: b; only in .*test: c",
        ),
        ({"train/a": 3, "train/b": 3, "valid/a": 1}, {}, r"no test/.*data.test_dir=.*valid.*data.root=.*train"),
        ({"x/train/a": 3, "x/train/b": 3, "y/a": 1}, {}, "holds folders .train.*one level too high"),
        ({"a": 3, "b": 3}, {"image_size": 7}, "image_size must be at least 8 pixels, got 7"),
        ({"a": 3, "b": 3}, {"test_fraction": 1.5}, "test_fraction must lie between 0 and 1, got 1.5"),
        ({"a": 3, "b": 3}, {"val_fraction": 0}, "val_fraction must lie between 0 and 1, got 0"),
        ({"a": 3, "b": 3}, {"on_bad_file": "ignore"}, "'error' or 'skip', got 'ignore'"),
        ({"a": 3, "b": 3}, {"on_leak": "ignore"}, "'warn' or 'error', got 'ignore'"),
        ({"a": 3, "b": 3}, {"image_size": 12.5}, "image_size must be a whole number, got 12.5"),
        ({"a": 3, "b": 3}, {"val_fraction": "half"}, "val_fraction must lie between 0 and 1, got 'half'"),
        ({"a": 3, "b": 3}, {"root": " "}, "data.root is empty"),
        ({"a": 3, "b": 3}, {"root": "~nobody_of_that_name/x"}, "data.root=~nobody_of_that_name/x: "),
        ({"a/x": 3, "b": 3}, {}, "holds folders .x. and no file"),
        ({"Test/a/x": 1, "b": 3}, {}, "holds folders .a. and no file.*one level too high"),
        ({"train/e\u0301": 3, "train/\xe9": 3, "test/\xe9": 1}, {}, r"look the same .* \(1 characters\)"),
    ],
)
def test_a_tree_or_setting_that_cannot_work_is_refused(tmp_path, opened, counts, settings, message):
    (tmp_path / "tree").mkdir()
    with pytest.raises(ValueError, match=message) as raised:
        opened(**{"root": grow(tmp_path / "tree", counts), **settings})
    assert str(raised.value).startswith("data.") and str(raised.value).count("data.root=") <= 2


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("training", "testing"), ("TRAINING", "Val"), ("Train", "valid"), ("training", "Validation")],
)
def test_splits_of_other_names_are_refused_with_the_settings_that_read_them(tmp_path, opened, train, test):
    root = grow(tmp_path / "tree", {f"{split}/{name}": 3 for split in (train, test) for name in "ab"})
    with pytest.raises(ValueError) as raised:
        opened(root)
    assert str(raised.value) == (
        f"data.root={root} holds splits of other names: use data.train_dir={train} data.test_dir={test}"
    )
    settings = dict(part.removeprefix("data.").split("=") for part in str(raised.value).partition(": use ")[2].split())
    assert len(opened(root, **settings).test) == 6


def test_a_test_is_preferred_to_a_validation_folder_and_classes_may_have_such_names(tmp_path, opened):
    root = grow(tmp_path / "tree", {f"{split}/{name}": 3 for split in ("Train", "Test", "Val") for name in "ab"})
    with pytest.raises(ValueError, match="data.train_dir=Train data.test_dir=Test$"):
        opened(root)
    assert opened(grow(tmp_path / "seen", {"Training": 4, "Testing": 4})).classes == ("Testing", "Training")


@pytest.mark.parametrize("nested", [True, False])
def test_intels_tree_is_refused_with_its_own_data_set(tmp_path, opened, nested):
    root = intel_tree(tmp_path / "tree", nested)
    for place in [root, root / "seg_train"] if nested else [root]:
        with pytest.raises(ValueError, match=f"^data.root={place} .*: use data=intel data.root={root}$"):
            opened(place)
    assert len(opened(root / "seg_train" / ("seg_train" if nested else "")).targets) == 24


@pytest.mark.parametrize(
    "settings",
    [{"test_dir": "train"}, {"test_dir": "link"}, {"train_dir": ".", "test_dir": "."}, {"test_dir": "./train/"}],
)
def test_one_folder_for_both_splits_is_refused_before_anything_is_decoded(tree, opened, tmp_path, settings):
    (tree / "link").symlink_to("train")
    with pytest.raises(ValueError, match=r"^data.train_dir=.* and data.test_dir=.* are the same folder, .*data.root="):
        opened(tree, **settings)
    assert not (tmp_path / "store").exists()


@pytest.mark.filterwarnings("error")
def test_settings_are_checked_before_any_image_is_read(tree, opened, tmp_path):
    for settings in ({"val_fraction": 2}, {"image_size": 7}, {"on_leak": "no"}, {"on_bad_file": "no"}):
        with pytest.raises(ValueError, match=f"data.{next(iter(settings))} must"):
            opened(tree, **settings)
    assert not (tmp_path / "store").exists()


@pytest.mark.filterwarnings("ignore::kd.runtime.user_warnings.KdWarning")
def test_a_data_set_may_be_tiny(tmp_path, opened):
    root = grow(tmp_path / "tree", {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1})
    dataset = opened(root)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (2, 2, 2)
    loader = Loader(dataset, 128, 0, torch.device("cpu"))
    assert [len(batch.target) for batch in loader.epoch(0)] == [2]


def test_a_class_may_be_spelt_apart_in_one_split(tmp_path, opened):
    """macOS, and archives made there, decompose accents."""
    root = grow(tmp_path / "tree", {"train/caf\xe9": 2, "train/bar": 2, "test/cafe\u0301": 1, "test/bar": 1})
    assert opened(root).classes == ("bar", "caf\xe9")


def test_a_root_may_be_a_number_and_is_no_file(tree, tmp_path, opened, monkeypatch):
    tree.rename(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    assert len(open_data(load, Store("store"), root=2024, image_size=12).test) == 7
    with pytest.raises(FileNotFoundError, match="00.png is a file, not a folder"):
        opened(tmp_path / "2024/train/cat/00.png")


def test_a_missing_root_is_named(tmp_path, opened):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="needs data.root"):
        open_data(load, Store(tmp_path))
