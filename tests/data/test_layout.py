"""Splits in unusual places, the validation split, nested classes, the order of classes."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from kd.data.class_folders import in_order
from kd.data.datasets import intel
from kd.data.datasets.folder import load
from kd.pipeline.preflight import StopBeforeData, StoreSentinel
from kd.runtime.user_warnings import KdWarning
from kd.store.store import Store
from tests.conftest import open_data
from tests.data.test_folder import grow
from tests.data.test_intel import grow as intel_tree

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def opened(tmp_path):
    store = Store(tmp_path / "store")
    return lambda root, **settings: open_data(load, store, **{"root": str(root), "image_size": 12, **settings})


def classes(*folders, count=3):
    return {f"{folder}/{name}": count for folder in folders for name in "ab"}


@pytest.mark.parametrize(
    ("train", "test", "folders"),
    [
        ("train/train", "test/test", "train/train/ and test/test/"),
        ("train/train", "test", "train/train/ and test/"),
        ("train/images", "test/images", "train/images/ and test/images/"),
        ("data/train", "data/test", "data/train/ and data/test/"),
        ("archive/data/train/train", "archive/data/test/test", "archive/data/train/train/ and archive/data/test/test/"),
    ],
)
def test_splits_that_are_wrapped_once_more_are_found_and_named(tmp_path, opened, train, test, folders):
    plain = opened(grow(tmp_path / "plain", classes("train", "test")))
    root = grow(tmp_path / "tree", classes(train, test))
    (root / "README.txt").write_text("beside")
    with pytest.warns(KdWarning) as warned:
        dataset = opened(root)
    assert [str(each.message) for each in warned] == [f"data.root={root}: read from {folders}"]
    assert dataset.fingerprint == plain.fingerprint
    assert len([*(tmp_path / "store" / "data").iterdir()]) == 1  # the same data set


def test_a_folder_among_others_is_found_where_it_alone_holds_splits(tmp_path, opened):
    root = grow(tmp_path / "tree", classes("images/train", "images/test"))
    (root / "annotations").mkdir()
    (root / "annotations" / "x.xml").touch()
    with pytest.warns(KdWarning, match="read from images/train/ and images/test/"):
        assert len(opened(root).test) == 6
    grow(root, classes("other/train", "other/test"))
    with pytest.raises(ValueError, match="several folders with train/ and test/: use data.root=.*images or .*other$"):
        opened(root)


def test_classes_in_a_folder_around_them_are_found(tmp_path, opened):
    root = grow(tmp_path / "tree", classes("flowers/flowers", count=9))
    with pytest.warns(KdWarning, match="read from flowers/flowers/$"):
        assert opened(root).classes == ("a", "b")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 9}, "at least 2 class folders"),
        ({"train/a": 9, "test/a": 9}, "at least 2 class folders"),
        ({"a/train": 3, "a/test": 3, "b/train": 3, "b/test": 3}, "class folder .*a holds folders .test, train."),
        ({**classes("x/train", "x/test"), "a": 3, "b": 3}, "class folder .*x holds folders"),  # beside classes
        ({**classes("data/train")}, "data has train/ but no test/"),
        ({**classes("Training")}, "class folder .*Training holds folders .* and no file"),
        ({**classes("archive/Train", "archive/Test")}, "use data.train_dir=Train data.test_dir=Test$"),
    ],
)
def test_an_ambiguous_layout_is_not_guessed(tmp_path, opened, counts, message):
    with pytest.raises(ValueError, match=message):
        opened(grow(tmp_path / "tree", counts))


def test_intels_tree_in_a_folder_is_refused_and_read_by_its_own_data_set(tmp_path, opened):
    root = intel_tree(tmp_path / "tree" / "archive", True)
    with pytest.raises(ValueError, match=f": use data=intel data.root={root}$"):
        opened(tmp_path / "tree")
    store = Store(tmp_path / "store")
    one, other = (open_data(intel.load, store, root=str(place)) for place in (root, tmp_path / "tree"))
    assert one.fingerprint == other.fingerprint


def test_a_validation_folder_that_cannot_be_read_is_named_with_the_setting_that_ignores_it(tmp_path, opened):
    root = grow(tmp_path / "tree", {**classes("train", count=4), **classes("test"), "val/a": 2})
    with pytest.raises(ValueError, match=r"at least 2 class folders.*data\.val_dir=null ignores .*val$"):
        opened(root)


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_a_folder_of_validation_images_validates(tmp_path, opened, name):
    root = grow(tmp_path / "tree", {**classes("train", count=4), **classes("test"), **classes(name, count=2)})
    with pytest.warns(KdWarning) as warned:
        dataset = opened(root)
    assert [str(each.message) for each in warned] == [
        f"data.root={root}: {name}/ is used for validation; data.val_dir=null ignores it"
    ]
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [8, 4, 6]
    for part, folder in ((dataset.train, "train"), (dataset.val, name), (dataset.test, "test")):
        assert (dataset.images[part[0]] == np.asarray(Image.open(root / folder / "a" / "00.png"))).all()
        assert (dataset.images[part[-1]] == np.asarray(Image.open(sorted((root / folder / "b").iterdir())[-1]))).all()
    trained = dataset.images[dataset.train] / 255
    np.testing.assert_allclose(dataset.mean, trained.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, trained.std((0, 1, 2)), rtol=1e-9)
    given = opened(root, val_dir=name)  # without a warning, which is an error here
    assert given.fingerprint == dataset.fingerprint == opened(root, val_dir=name, seed=5, val_fraction=0.3).fingerprint
    without = opened(root, val_dir=None)
    assert len(without.train) + len(without.val) == 8 and without.fingerprint != dataset.fingerprint
    shutil.move(root / name / "a" / "00.png", root / "train" / "a" / "from_val.png")
    assert opened(root, val_dir=name).fingerprint != dataset.fingerprint


def test_a_preflight_check_gives_no_remarks(tmp_path):
    root = grow(tmp_path / "tree", classes("train/train", "test", "val"))
    with pytest.raises(StopBeforeData):
        open_data(load, StoreSentinel(), root=str(root))


@pytest.mark.parametrize(
    ("more", "settings", "message"),
    [
        (classes("val", "valid"), {}, "holds val, valid: choose one with data.val_dir=..."),
        ({"val/a": 2}, {}, "at least 2 class folders"),
        (
            {"val/a": 2, "val/c": 2},
            {},
            "different classes: .*train: b; only in .*val: c; data.val_dir=null ignores it",
        ),
        ({}, {"val_dir": "dev"}, "data.val_dir=dev is not a folder in .*beside the two splits: no folder"),
        ({}, {"val_dir": "train"}, "data.train_dir=train and data.val_dir=train are the same folder"),
        ({}, {"val_dir": "./test/"}, "data.test_dir=test and data.val_dir=./test/ are the same folder"),
    ],
)
def test_an_impossible_validation_split_is_refused(tmp_path, opened, more, settings, message):
    root = grow(tmp_path / "tree", {**classes("train", "test"), **more})
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message) as raised:
        warnings.simplefilter("ignore", KdWarning)
        opened(root, **settings)
    assert str(raised.value).startswith("data.")


def test_a_validation_folder_without_classes_is_ignored_with_a_remark(tmp_path, opened):
    root = grow(tmp_path / "tree", {**classes("train", "test", count=4), "val": 2})
    with pytest.warns(KdWarning, match="val/ is ignored because it does not consist of class folders"):
        assert len(opened(root).val) == 2


def test_leaks_and_bad_files_of_the_validation_are_found_like_others(tmp_path, opened):
    root = grow(tmp_path / "tree", classes("train", "val", "test", count=4))
    shutil.copy(root / "val/a/01.png", root / "test/a/same.png")
    shutil.copy(root / "val/b/01.png", root / "train/b/same.png")
    (root / "val/b/bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1 of 27 files .*\n.*val/b/bad.png"):
        opened(root, val_dir="val")
    with pytest.warns(KdWarning, match="val/a/01.png = test/a/same.png"):
        dataset = opened(root, val_dir="val", on_bad_file="skip")
    assert dataset.notes["images_in_train_and_validation"] == dataset.notes["bad_files"] == 1
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [9, 8, 9]
    with pytest.raises(ValueError, match="data.on_leak=error"):
        opened(root, val_dir="val", on_bad_file="skip", on_leak="error")


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        (["10", "9", "-1", "0.5"], ["-1", "0.5", "9", "10"]),
        (["b", "a10", "a2"], ["a10", "a2", "b"]),
        (["x", "10", "2", "!"], ["!", "2", "10", "x"]),
        (["01", "1", "00"], ["00", "01", "1"]),
        (["\u0661\u0660", "\u0662"], ["\u0661\u0660", "\u0662"]),
    ],
)
def test_numbers_stand_in_their_order_and_other_names_as_ever(names, right):
    assert in_order(names) == right


def test_classes_that_are_numbers_stand_in_their_order(tmp_path, opened):
    counts = {f"{split}/{name}": 3 for split in ("train", "test") for name in ("1", "2", "10")}
    root = grow(tmp_path / "tree", counts)
    dataset = opened(root)
    assert dataset.classes == ("1", "2", "10") and dataset.targets[dataset.test].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert (dataset.images[-1] == np.asarray(Image.open(root / "test/10/02.png"))).all()


def test_what_lies_below_a_class_is_read_with_nested(tmp_path, opened):
    counts = {f"{split}/{name}": 2 for split in ("train", "test") for name in ("cat/tom", "cat/old/felix", "dog/rex")}
    root = grow(tmp_path / "tree", counts)
    Image.new("RGB", (12, 12), "red").save(root / "train/dog/stray.png")
    with pytest.raises(ValueError, match="class folder .*cat holds folders .*data.nested=true reads the folders below"):
        opened(root)
    dataset = opened(root, nested=True)
    assert dataset.classes == ("cat", "dog") and np.bincount(dataset.targets).tolist() == [8, 5]
    assert (dataset.images[0] == np.asarray(Image.open(root / "train/cat/old/felix/00.png"))).all()
    (root / "train/cat/tom/up").symlink_to("..")
    with pytest.raises(ValueError, match="1 of 14 files .*\n.*train/cat/tom/up: a folder, not a file"):
        opened(root, nested=True)
    (root / "train/cat/tom/up").unlink()
    (root / "train/empty/inner").mkdir(parents=True)
    with pytest.raises(ValueError, match="class folders without any file in .*train: empty"):
        opened(root, nested=True)


def test_a_tree_without_folders_below_is_the_same_set_with_and_without_nested(tmp_path, opened):
    root = grow(tmp_path / "tree", classes("train", "test"))
    assert opened(root).fingerprint == opened(root, nested=True).fingerprint
    assert len([*(tmp_path / "store" / "data").iterdir()]) == 1
