"""The two data sets in MNIST's format: places that are searched, grey images, messages about missing files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from kd.data.datasets import fashion_mnist, oracle_mnist
from kd.data.readers.idx import STEMS
from kd.store.store import Store
from tests.conftest import open_data

MODULES = [fashion_mnist, oracle_mnist]


def fill(folder, packed=False, labels=None):
    """Write 40 training and 10 test images of 28 x 28 and return all of them, [50, 28, 28]."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    labels = np.arange(50, dtype=np.uint8) % 10 if labels is None else labels
    for stem, array in zip(STEMS, (images[:40], labels[:40], images[40:], labels[40:]), strict=True):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
        data = header + array.tobytes()
        (folder / (f"{stem}.gz" if packed else stem)).write_bytes(gzip.compress(data) if packed else data)
    return images


@pytest.mark.parametrize("module", MODULES)
def test_the_arrays_are_those_of_the_files_and_grey(tmp_path, module):
    store = Store(tmp_path / "store")
    images = fill(tmp_path / "plain")
    dataset = open_data(module.load, store, root=str(tmp_path / "plain"))
    assert dataset.images.shape == (50, 28, 28, 1) and (dataset.images[..., 0] == images).all()
    assert dataset.targets.tolist() == [n % 10 for n in range(50)] and len(dataset.classes) == 10
    assert dataset.test.tolist() == list(range(40, 50))
    assert len(set(dataset.mean)) == 1 == len(set(dataset.std))
    fill(tmp_path / "packed", packed=True)
    assert open_data(module.load, store, root=str(tmp_path / "packed")).fingerprint == dataset.fingerprint


def test_other_sizes_are_resampled(tmp_path):
    images = fill(tmp_path / "plain")
    dataset = open_data(fashion_mnist.load, Store(tmp_path / "store"), root=str(tmp_path / "plain"), image_size=14)
    assert dataset.images.shape == (50, 14, 14, 1)
    means = images.mean((1, 2)), dataset.images.mean((1, 2, 3))
    assert np.abs(means[0] - means[1]).max() < 3


@pytest.mark.parametrize(
    ("module", "inside"), [(fashion_mnist, "FashionMNIST/raw"), (oracle_mnist, "data/oracle"), (fashion_mnist, ".")]
)
def test_the_usual_places_below_the_root_are_searched(tmp_path, module, inside):
    fill(tmp_path / "root" / inside if inside != "." else tmp_path / "root")
    assert len(open_data(module.load, Store(tmp_path / "store"), root=str(tmp_path / "root")).test) == 10


def test_debians_files_are_taken_where_they_are_installed(tmp_path, monkeypatch):
    fill(tmp_path / "debian", packed=True)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    assert len(open_data(fashion_mnist.load, Store(tmp_path / "store")).test) == 10


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_oracle_says_where_the_files_are(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="data.root") as raised:
        open_data(oracle_mnist.load, Store(tmp_path), root=root)
    assert len(str(raised.value).splitlines()) == 2 and "github.com/wm-bupt/oracle-mnist" in str(raised.value)


def test_fashion_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        open_data(fashion_mnist.load, Store(tmp_path), root=str(tmp_path))
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "not installed")
    monkeypatch.setattr(FashionMNIST, "mirrors", ["file:///nowhere/"])  # as without a network
    with pytest.raises(FileNotFoundError) as raised:
        open_data(fashion_mnist.load, Store(tmp_path / "store"))
    missing, remedy = str(raised.value).splitlines()
    assert "could not be downloaded" in missing and "dataset-fashion-mnist" in remedy and "data.root=" in remedy


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.arange(50),
            r"training: labels must lie in 0\.\.9, found 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, and 20 more$",
        ),
        (np.full(50, 3), "all training images are of one class, dress"),
        (np.r_[np.arange(39) % 2, 9, np.arange(10)], r"at least 2 per class .*: ankle boot \(1\)$"),
    ],
)
def test_labels_that_cannot_be_learnt_from_are_refused(tmp_path, labels, message):
    fill(tmp_path / "root", labels=labels.astype(np.uint8))
    with pytest.raises(ValueError, match=message) as raised:
        open_data(fashion_mnist.load, Store(tmp_path / "store"), root=str(tmp_path / "root"))
    assert str(raised.value).startswith((f"data.root={tmp_path / 'root'}: fashion_mnist: ", "data.val_fraction=0.1: "))


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    def opened():
        return open_data(fashion_mnist.load, Store(tmp_path / "store"), root=str(tmp_path / "root"))

    fill(tmp_path / "root")
    images, labels, test_images, test_labels = (tmp_path / "root" / stem for stem in STEMS)
    whole = test_labels.read_bytes()
    test_labels.write_bytes(whole[:7] + b"\x09" + whole[8:-1])
    with pytest.raises(ValueError, match="test: 10 images but 9 labels"):
        opened()
    test_labels.write_bytes(test_images.read_bytes())
    with pytest.raises(ValueError, match="^data.root=.*root: .*labels-idx1-ubyte has 3 dimensions but 1 are expected"):
        opened()
    test_labels.write_bytes(whole)
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte is damaged: its header says \[40, 28, 28\], but 31359"
    ):
        opened()
    assert not list((tmp_path / "store").glob("data/*"))
    labels.unlink()
    labels.mkdir()
    with pytest.raises(FileNotFoundError, match="must hold the four files"):
        opened()
