"""Data sets in the formats of Hugging Face's library, which writes them here."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from kd.data.datasets.huggingface import load
from kd.data.readers.split_names import choose_splits
from kd.data.readers.tables import split_of
from kd.store.store import Store
from tests.conftest import compose, open_data

datasets = pytest.importorskip("datasets")

CLASSES = ["wolf", "ant", "cat"]  # not in alphabetical order: their numbers are those of the data set
SIDE = 12


def noise(count, seed, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def split(count, seed, label=None, **columns):
    """Return a ``datasets.Dataset`` of noise; image n has class n % 3."""
    pictures = [Image.fromarray(image) for image in noise(count, seed)]
    features = {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=CLASSES)}
    content = {"image": pictures, "label": columns.pop("values", [n % 3 for n in range(count)])}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


@pytest.fixture
def opened(tmp_path):
    return lambda root, **settings: open_data(
        load, Store(tmp_path / "store"), **{"root": str(root), "image_size": SIDE, **settings}
    )


def as_saved(root, splits):
    datasets.DatasetDict(splits).save_to_disk(str(root))


def as_parquet(root, splits):
    """Write each split as on the hub, in two files of several groups of rows."""
    root.mkdir()
    for name, table in splits.items():
        for number in range(2):
            part = table.shard(2, number, contiguous=True)
            part.to_parquet(str(root / f"{name}-{number:05}-of-00002.parquet"), batch_size=5)


@pytest.mark.parametrize("write", [as_saved, as_parquet])
def test_images_labels_and_splits_are_those_of_the_library(tmp_path, opened, write):
    write(tmp_path / "data", {"train": split(30, 0), "test": split(9, 1)})
    dataset = opened(tmp_path / "data", val_fraction=0.2)
    assert dataset.classes == tuple(CLASSES) and dataset.name == "huggingface"
    assert (dataset.images == np.concatenate([noise(30, 0), noise(9, 1)])).all()  # in the order of the rows
    assert dataset.targets.tolist() == [n % 3 for n in range(30)] + [n % 3 for n in range(9)]
    assert dataset.test.tolist() == list(range(30, 39)) and len(dataset.val) == 6


def test_both_formats_and_a_copy_elsewhere_have_one_fingerprint(tmp_path, opened):
    splits = {"train": split(30, 0), "test": split(9, 1)}
    as_saved(tmp_path / "saved", splits)
    as_parquet(tmp_path / "parquet", splits)
    shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    saved, parquet, copy = (opened(tmp_path / name).fingerprint for name in ("saved", "parquet", "copy"))
    assert saved == parquet == copy
    assert len(list((tmp_path / "store" / "data").iterdir())) == 2  # the copy was found by its content
    as_saved(tmp_path / "other", {"train": split(30, 2), "test": split(9, 1)})
    assert opened(tmp_path / "other").fingerprint != saved


def test_a_second_run_opens_no_table(tmp_path, opened, monkeypatch):
    as_saved(tmp_path / "data", {"train": split(30, 0), "test": split(9, 1)})
    first = opened(tmp_path / "data")
    monkeypatch.delattr(datasets, "load_from_disk")
    assert opened(tmp_path / "data").fingerprint == first.fingerprint


def test_one_split_is_divided_and_validation_is_used(tmp_path, opened):
    split(30, 0).save_to_disk(str(tmp_path / "one"))
    one = opened(tmp_path / "one", test_fraction=0.3, val_fraction=0.2)
    assert np.bincount(one.targets[one.test]).tolist() == [3, 3, 3]
    as_parquet(tmp_path / "three", {"train": split(15, 0), "validation": split(6, 1), "test": split(6, 2)})
    three = opened(tmp_path / "three")
    assert (three.images[three.val] == noise(6, 1)).all() and len(three.train) == 15
    assert len(opened(tmp_path / "three", val_split=None, val_fraction=0.2).val) == 3


def test_validation_is_the_test_if_there_is_no_other(tmp_path, opened):
    as_parquet(tmp_path / "data", {"train": split(30, 0), "validation": split(6, 1)})
    with pytest.warns(UserWarning, match=r"validation is \(data.test_split\)"):
        dataset = opened(tmp_path / "data")
    assert (dataset.images[dataset.test] == noise(6, 1)).all() and len(dataset.val) == 3


@pytest.mark.parametrize(
    ("label", "values", "classes"),
    [
        (datasets.Value("string"), ["10", "9", "x"] * 10, ("9", "10", "x")),
        (datasets.Value("int64"), [40, -3, 5] * 10, ("-3", "5", "40")),
        (datasets.Value("bool"), [True, False, False] * 10, ("False", "True")),
    ],
)
def test_labels_without_names(tmp_path, opened, label, values, classes):
    as_parquet(tmp_path / "data", {"train": split(30, 0, label, values=values)})
    dataset = opened(tmp_path / "data")
    assert dataset.classes == classes
    expected = sorted(str(values[0]) for _ in range(1))
    (row,) = [row for row in range(30) if (dataset.images[row] == noise(30, 0)[0]).all()]
    assert dataset.classes[dataset.targets[row]] in expected


def table(**features):
    """A table of ten rows with these columns, bytes of images and whole numbers."""
    buffer = io.BytesIO()
    Image.fromarray(noise(1, 0)[0]).save(buffer, "PNG")
    values = {"binary": [buffer.getvalue()] * 10, "image": [{"bytes": buffer.getvalue(), "path": None}] * 10}
    made = {"binary": datasets.Value("binary"), "image": datasets.Image(), "int64": datasets.Value("int64")}
    made |= {"float32": datasets.Value("float32"), "class": datasets.ClassLabel(names=["a", "b"])}
    content = {name: values.get(kind, [n % 2 for n in range(10)]) for name, kind in features.items()}
    kinds = datasets.Features({name: made[kind] for name, kind in features.items()})
    return datasets.Dataset.from_dict(content, features=kinds)


@pytest.mark.parametrize(
    ("features", "settings", "message"),
    [
        ({"image": "image", "fine": "class", "coarse": "class"}, {}, "choose one with data.label_column: fine, coarse"),
        (
            {"image": "image", "height": "int64"},
            {},
            "no column of labels .* data.label_column: image, height",
        ),
        ({"left": "image", "right": "image", "label": "class"}, {}, "choose one with data.image_column: left, right"),
        ({"image": "image", "label": "class"}, {"label_column": "lable"}, "lable is not a column; did you mean label?"),
        ({"image": "image", "label": "float32"}, {"label_column": "label"}, "data.label_column=label holds float32"),
        ({"image": "image", "label": "class"}, {"test_split": "tset"}, "data.test_split=tset is not there"),
    ],
)
def test_what_is_not_clear_is_asked(tmp_path, opened, features, settings, message):
    as_parquet(tmp_path / "data", {"train": table(**features)})
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / "data", **settings)


def test_columns_by_name_and_bytes_without_a_feature(tmp_path, opened):
    as_parquet(tmp_path / "data", {"train": table(jpg="binary", fine="class", coarse="int64", width="int64")})
    one, other = (opened(tmp_path / "data", label_column=name, on_leak="warn") for name in ("fine", "coarse"))
    assert one.classes == ("a", "b") and other.classes == ("0", "1")
    assert (one.images[0] == noise(1, 0)[0]).all()


def test_images_without_a_label_and_splits_without_labels_are_named(tmp_path, opened):
    hidden = split(6, 1, values=[-1] * 6)
    as_parquet(tmp_path / "data", {"train": split(30, 0), "validation": split(6, 2), "test": hidden})
    with pytest.raises(ValueError, match="the split test has no labels. data.test_split="):
        opened(tmp_path / "data")
    assert len(opened(tmp_path / "data", test_split="validation").test) == 6
    as_parquet(tmp_path / "more", {"train": split(30, 0, values=[0, 1, -1] * 10), "test": split(6, 2)})
    with pytest.raises(ValueError, match="10 of 30 images of train have no label: rows 2, 5, 8"):
        opened(tmp_path / "more")


def test_a_bad_image_is_named_by_split_and_row(tmp_path, opened):
    whole = split(30, 0).cast_column("image", datasets.Image(decode=False)).to_dict()
    whole["image"][7] = {"bytes": b"no image", "path": None}
    whole["image"][8] = {"bytes": None, "path": "/etc/passwd"}  # a path is opened as an image, and nothing else
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    as_parquet(tmp_path / "data", {"train": datasets.Dataset.from_dict(whole, features=features), "test": split(6, 1)})
    with pytest.raises(ValueError) as raised:
        opened(tmp_path / "data")
    assert "2 of 36 files cannot be read" in str(raised.value) and "train/7: not an image" in str(raised.value)
    assert "train/8: not an image of a known format" in str(raised.value)
    assert opened(tmp_path / "data", on_bad_file="skip").notes["bad_files"] == 2


def test_a_path_out_of_the_folder_in_its_index_is_not_followed(tmp_path, opened):
    as_saved(tmp_path / "data", {"train": split(30, 0)})
    (tmp_path / "data" / "dataset_dict.json").write_text('{"splits": ["train", "../../other", "/etc"]}')
    assert len(opened(tmp_path / "data").targets) == 30


def test_without_a_hub_two_lines_say_what_to_do(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(FileNotFoundError) as raised:
        open_data(load, Store(tmp_path), name="somebody/flowers", image_size=SIDE)
    missing, remedy = str(raised.value).splitlines()
    assert missing.startswith("somebody/flowers is not on this machine and could not be downloaded (")
    assert "save_to_disk(FOLDER)" in remedy and "data.root=FOLDER" in remedy


def test_without_a_hub_the_cache_of_the_library_is_used(tmp_path, monkeypatch):
    from huggingface_hub import constants

    as_parquet(tmp_path / "data", {"train": split(30, 0), "test": split(9, 1)})
    files = {name: str(tmp_path / "data" / f"{name}-*.parquet") for name in ("train", "test")}
    datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "made"))
    (made,) = (path for path in (tmp_path / "made" / "parquet").glob("*/*/*") if path.is_dir())
    for path in made.glob("*.arrow"):  # as the library names them after a download
        path.rename(made / path.name.replace("parquet-", "flowers-"))
    info = json.loads((made / "dataset_info.json").read_text()) | {"dataset_name": "flowers", "config_name": "default"}
    (made / "dataset_info.json").write_text(json.dumps(info))
    shutil.copytree(made, tmp_path / "cache" / "somebody___flowers" / "default" / "0.0.0" / "1234")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    dataset = open_data(load, Store(tmp_path / "store"), name="somebody/flowers", image_size=SIDE)
    assert (dataset.images == np.concatenate([noise(30, 0), noise(9, 1)])).all()
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE  # both are as they were


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs data.name=<name on the hub> or data.root=<folder>$"),
        ({"name": "a/b", "root": "."}, "or data.root=<folder>, not both"),
        ({"root": ".", "config": "x"}, "data.config chooses a configuration of a data set on the hub"),
        ({"root": "."}, "neither what save_to_disk writes nor Parquet files"),
        ({"name": "."}, "data.name=. is a file or a folder here: set data.root=."),
    ],
)
def test_where_it_is_must_be_said_once(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_data(load, Store(tmp_path / "store"), image_size=SIDE, **settings)


def test_splits_are_chosen_by_their_names():
    assert choose_splits(["train", "test", "val"])[:3] == ("train", "test", "val")
    assert choose_splits(["Training", "valid"])[:3] == ("Training", "valid", None)
    assert choose_splits(["train", "val"], test=None)[:3] == ("train", None, "val")
    assert choose_splits(["train", "val"], val="val")[:3] == ("train", None, "val")
    assert choose_splits(["photos"])[:3] == ("photos", None, None)
    assert choose_splits(["a", "b"], train="a", test="b")[:3] == ("a", "b", None)
    for names, settings, message in (
        (["a", "b"], {}, "which split is for training.*: a, b"),
        (["train", "test"], {"test": "train"}, "one split has two purposes"),
        (["train", "test"], {"train": "tain"}, "data.train_split=tain is not there; did you mean train?"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_splits(names, **settings)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/test-00000.parquet", "test"),
        ("default/validation/0000.parquet", "validation"),
        ("photos.parquet", "photos"),
        ("train/part.0.parquet", "train"),
        ("0000.parquet", "train"),
    ],
)
def test_the_split_of_a_parquet_file_is_in_its_name_or_folder(path, name):
    from pathlib import Path

    assert split_of(Path(path)) == name


def test_the_settings_of_the_option_are_those_of_the_function():
    node = compose("data=huggingface", "data.name=a/b").data
    assert node.name == "a/b" and node.label_column == "auto"
