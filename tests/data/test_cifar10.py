"""CIFAR-10 and CIFAR-100 through torchvision, on tiny batches whose checksums replace the real ones."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from torchvision import datasets

from kd.data.datasets import cifar10, cifar100
from kd.store.store import Store
from tests.conftest import open_data


def grow(root, monkeypatch, cifar, labels_key, classes):
    """Write 3 images per class into every batch of ``cifar`` and return all images, [N, 32, 32, 3]."""
    folder = root / cifar.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    everything = []

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        names = [name for name, _ in getattr(cifar, part)]
        sums = []
        for name in names:
            data = generator.integers(0, 256, (3 * classes, 3072), np.uint8)
            everything.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            sums.append(write(name, {"data": data, labels_key: [n % classes for n in range(3 * classes)]}))
        monkeypatch.setattr(cifar, part, [[name, md5] for name, md5 in zip(names, sums, strict=True)])
    md5 = write(cifar.meta["filename"], {cifar.meta["key"]: [f"class {n}" for n in range(classes)]})
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5})
    return np.concatenate(everything)


@pytest.mark.parametrize(
    ("module", "cifar", "labels_key", "classes", "batches"),
    [(cifar10, datasets.CIFAR10, "labels", 10, 5), (cifar100, datasets.CIFAR100, "fine_labels", 100, 1)],
)
def test_the_arrays_are_those_of_the_batches(tmp_path, monkeypatch, module, cifar, labels_key, classes, batches):
    images = grow(tmp_path / "root", monkeypatch, cifar, labels_key, classes)
    dataset = open_data(module.load, Store(tmp_path / "store"), root=str(tmp_path / "root"), image_size=32)
    assert (dataset.images == images).all() and dataset.name == module.__name__.split(".")[-1]
    assert dataset.targets.tolist() == [n % classes for n in range(3 * classes)] * (batches + 1)
    assert len(dataset.test) == 3 * classes and dataset.classes[1] == "class 1"


def test_missing_and_damaged_files_are_named(tmp_path, monkeypatch):
    store, root = Store(tmp_path / "store"), tmp_path / "root"
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py/ .*missing: data_batch_1"):
        open_data(cifar10.load, store, root=str(root))
    grow(root, monkeypatch, datasets.CIFAR10, "labels", 10)
    with (root / "cifar-10-batches-py" / "data_batch_3").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="^data.root=.*damaged"):
        open_data(cifar10.load, store, root=str(root))


@pytest.mark.parametrize(("module", "cifar"), [(cifar10, datasets.CIFAR10), (cifar100, datasets.CIFAR100)])
def test_without_a_network_two_lines_say_what_to_do(tmp_path, monkeypatch, module, cifar):
    monkeypatch.setattr(cifar, "url", "file:///nowhere/cifar.tar.gz")
    with pytest.raises(FileNotFoundError) as raised:
        open_data(module.load, Store(tmp_path))
    missing, remedy = str(raised.value).splitlines()
    assert "could not be downloaded" in missing and "data.root=" in remedy and cifar.base_folder in remedy
