"""Data sets of torchvision by name, on small files in the published formats; their checksums replace the real ones."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from kd.data.datasets.torchvision import load
from kd.data.readers.torchvision_sets import ELSEWHERE, SETS, canonical_name, first_url
from kd.store.store import Store
from tests.conftest import compose, open_data

SIDE = 16


def noise(count, seed, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def eurosat(root, monkeypatch):
    """Class folders without a split."""
    for number, name in enumerate(("Forest", "River", "Highway")):
        folder = root / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for row, image in enumerate(noise(10, number)):
            Image.fromarray(image).save(folder / f"{name}_{row}.png")
    return {"classes": ("Forest", "Highway", "River"), "counts": (24, 6)}


def svhn(root, monkeypatch):
    """Matlab files of all images; the digit 0 has the label 10."""
    scipy = pytest.importorskip("scipy.io")
    root.mkdir()
    found = {}
    for split, count in {"train": 30, "test": 20}.items():
        path = root / f"{split}_32x32.mat"
        images = noise(count, len(split))
        labels = np.arange(count)[:, None] % 10 + 1
        scipy.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": labels.astype(np.uint8)})
        found[split] = ["http://127.0.0.1:9/", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", found)
    return {
        "classes": tuple("0123456789"),
        "counts": (30, 20),
        "images": np.concatenate([noise(30, 5), noise(20, 4)]),
        "targets": [(row + 1) % 10 for row in range(30)] + [(row + 1) % 10 for row in range(20)],
    }


def stl10(root, monkeypatch):
    """Binary files, each image by channel and then by column; 96 pixels are in the format."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    sums = {}
    for split, count in {"train": 20, "test": 10}.items():
        images = noise(count, len(split), 96)
        images.transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")
        (np.arange(count) % 10 + 1).astype(np.uint8).tofile(folder / f"{split}_y.bin")
        sums[split] = [[name, md5(folder / name)] for name in (f"{split}_X.bin", f"{split}_y.bin")]
    names = [f"thing {number}" for number in range(10)]
    (folder / "class_names.txt").write_text("\n".join(names))
    monkeypatch.setattr(datasets.STL10, "train_list", sums["train"])
    monkeypatch.setattr(datasets.STL10, "test_list", sums["test"])
    images = np.concatenate([noise(20, 5, 96), noise(10, 4, 96)])
    targets = [row % 10 for row in range(20)] + list(range(10))
    return {"classes": tuple(names), "counts": (20, 10), "images": images, "targets": targets, "image_size": 96}


def flowers(root, monkeypatch):
    """JPEG files with labels and three splits in Matlab files."""
    scipy = pytest.importorskip("scipy.io")
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for number, image in enumerate(noise(12, 0), 1):
        Image.fromarray(image).save(folder / "jpg" / f"image_{number:05}.jpg")
    scipy.savemat(folder / "imagelabels.mat", {"labels": np.arange(12) % 2 + 1})
    splits = {"trnid": np.arange(1, 7), "valid": np.arange(7, 9), "tstid": np.arange(9, 13)}
    scipy.savemat(folder / "setid.mat", splits)
    known = dict(datasets.Flowers102._file_dict)
    known |= {key: (name, md5(folder / name)) for key, (name, _) in known.items() if key != "image"}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", known)
    return {"classes": ("pink primrose", "hard-leaved pocket orchid"), "counts": (6, 4), "val": 2}


WRITERS = {"EuroSAT": eurosat, "SVHN": svhn, "STL10": stl10, "Flowers102": flowers}


@pytest.fixture
def opened(tmp_path):
    def load_it(name, root, **settings):
        given = {"name": name, "root": str(root), "image_size": SIDE, "val_fraction": 0.2, **settings}
        return open_data(load, Store(tmp_path / "store"), **given)

    return load_it


@pytest.mark.parametrize("name", WRITERS)
def test_images_labels_and_splits_are_those_of_the_files(tmp_path, monkeypatch, opened, name):
    known = WRITERS[name](tmp_path / "root", monkeypatch)
    dataset = opened(name, tmp_path / "root", image_size=known.get("image_size", SIDE))
    first = len(dataset.train) + len(dataset.val)
    assert (first - known.get("val", 0), len(dataset.test)) == known["counts"] and dataset.name == name.lower()
    assert dataset.classes[: len(known["classes"])] == known["classes"]
    if "images" in known:
        assert (dataset.images == known["images"]).all() and dataset.targets.tolist() == known["targets"]
    if "val" in known:
        assert len(dataset.val) == known["val"]


def test_a_set_without_a_split_is_divided_by_class(tmp_path, monkeypatch, opened):
    eurosat(tmp_path / "root", monkeypatch)
    one, other = (opened("EuroSAT", tmp_path / "root", test_fraction=0.3, seed=seed) for seed in (0, 1))
    assert np.bincount(one.targets[one.test]).tolist() == [3, 3, 3]
    assert (one.images[one.test] != other.images[other.test]).any()
    rows = {one.images[row].tobytes() for row in range(30)}
    assert rows == {image.tobytes() for seed in range(3) for image in noise(10, seed)}


@pytest.mark.parametrize("name", ["EuroSAT", "SVHN"])
def test_a_copy_elsewhere_is_found_by_its_content(tmp_path, monkeypatch, opened, name):
    WRITERS[name](tmp_path / "root", monkeypatch)
    first = opened(name, tmp_path / "root")
    shutil.copytree(tmp_path / "root", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "root")
    assert opened(name.lower(), tmp_path / "elsewhere").fingerprint == first.fingerprint
    assert len(list((tmp_path / "store" / "data").iterdir())) == 1


def test_another_image_is_another_data_set(tmp_path, monkeypatch, opened):
    eurosat(tmp_path / "root", monkeypatch)
    first = opened("EuroSAT", tmp_path / "root")
    Image.fromarray(noise(1, 99)[0]).save(tmp_path / "root/eurosat/2750/River/River_3.png")
    assert opened("EuroSAT", tmp_path / "root").fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CocoDetection", "data.name=CocoDetection is not a data set for image classification; these are: Caltech101"),
        ("Kinetics", "is not a data set for image classification"),
        ("Flower102", "torchvision has no such data set; did you mean Flowers102?"),
        ("qwxz", "torchvision has no such data set: Caltech101, "),
        ("cifar10", "use data=cifar10"),
        ("ImageFolder", "use data=folder data.root=<folder>"),
    ],
)
def test_names_that_cannot_be_used(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        open_data(load, Store(tmp_path), name=name)


def test_every_listed_name_is_one_of_torchvision():
    assert set(SETS) | set(ELSEWHERE) <= set(datasets.__all__)
    assert canonical_name("FLOWERS102") == "Flowers102"
    for name, splits in SETS.items():
        given = [own for own in splits if own is not None]
        assert len({str(own) for own in given}) == len(given), name


def test_where_nothing_lies_two_lines_say_what_to_do(tmp_path, opened):
    with pytest.raises(FileNotFoundError) as raised:
        opened("EuroSAT", tmp_path)
    missing, remedy = str(raised.value).splitlines()
    assert missing.startswith(f"data.root={tmp_path} does not hold EuroSAT") and "not found" in missing
    assert "torchvision.datasets.EuroSAT(root, download=True)" in remedy


def test_without_a_network_two_lines_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("kd.data.datasets.torchvision.first_url", lambda make_set: "http://127.0.0.1:9/")
    for name in ("EuroSAT", "FER2013"):  # torchvision has no download of the second
        with pytest.raises(FileNotFoundError) as raised:
            open_data(load, Store(tmp_path), name=name)
        missing, remedy = str(raised.value).splitlines()
        assert missing.startswith(f"{name} is not on this machine and could not be downloaded (")
        assert "data.root=<the folder" in remedy
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.parametrize("name", ["EuroSAT", "Flowers102", "STL10", "Food101", "DTD"])
def test_a_link_to_try_is_found(name):
    assert first_url(getattr(datasets, name)).startswith("http")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 3}, "data.options: EuroSAT takes no colour here"),
        ({"root": "/"}, "data.options: EuroSAT takes no root here"),
        ({"split": "train"}, "would make training and test the same images"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_data(load, Store(tmp_path), name="SVHN" if "split" in options else "EuroSAT", options=options)


def test_options_reach_the_class(tmp_path, opened):
    """DTD's ten partitions differ in their lists of files."""
    base = tmp_path / "root" / "dtd" / "dtd"
    for folder in ("images/banded", "images/dotted", "labels"):
        (base / folder).mkdir(parents=True)
    for number, image in enumerate(noise(24, 3)):
        Image.fromarray(image).save(base / "images" / ("banded", "dotted")[number % 2] / f"{number}.jpg", quality=95)
    for partition in (1, 2):
        for split, rows in {"train": range(0, 12), "val": range(12, 18), "test": range(18, 24)}.items():
            rows = [(row + 12 * (partition - 1)) % 24 for row in rows]
            lines = [f"{('banded', 'dotted')[row % 2]}/{row}.jpg" for row in rows]
            (base / "labels" / f"{split}{partition}.txt").write_text("\n".join(lines))
    one, two = (opened("DTD", tmp_path / "root", options=options) for options in (None, {"partition": 2}))
    assert len(one.val) == len(two.test) == 6 and one.classes == two.classes == ("banded", "dotted")
    assert (one.images[one.train] == two.images[[*two.val, *two.test]]).all()
    assert one.fingerprint != two.fingerprint


def test_the_option_takes_a_name_and_options():
    node = compose("data=torchvision", "data.name=DTD", "data.options={partition: 2}").data
    assert node.name == "DTD" and node.options == {"partition": 2}
