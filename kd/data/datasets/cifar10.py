"""CIFAR-10: 60,000 colour images of 32 x 32 pixels in ten classes (Krizhevsky 2009), 10,000 of them for the test.

https://www.cs.toronto.edu/~kriz/cifar.html. ``open_cifar`` opens CIFAR-100 as well. The batches are pickles: their
checksums must match the published files, and even then no code in them is run (cifar_pickle.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd.data.arrays import Split, open_arrays
from kd.data.checks import folder_of, name_setting
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.readers.cifar_pickle import read_pickle
from kd.data.sizing import Sizing
from kd.runtime.connection import check_url
from kd.runtime.errors import is_write_error
from kd.store.store import Store


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    on_leak: str = "warn",
) -> ImageDataset:
    """Open ``root``, which holds ``cifar-10-batches-py``; download the data set (163 MB) if ``root`` is null."""
    return open_cifar(store, "CIFAR10", size, seed, val_fraction, root, on_leak)


def open_cifar(
    store: Store,
    which: str,
    size: Sizing,
    seed: int,
    val_fraction: float,
    root: str | None,
    on_leak: str,
) -> ImageDataset:
    """Open ``which`` ("CIFAR10" or "CIFAR100"); torchvision's class has the names and checksums of all files."""
    from torchvision import datasets

    cifar = getattr(datasets, which)
    folder = folder_of(root) if root is not None else download(store, cifar)
    batches = folder / cifar.base_folder
    sums = dict([*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])])
    missing = [name for name in sums if not (batches / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"data.root={printable(root)} must hold {cifar.base_folder}/ with {', '.join(sums)}; "
            f"missing: {', '.join(missing)}"
        )

    def read() -> tuple[Split, Split, tuple[str, ...]]:
        whole = {name: read_batch(batches / name, md5, which) for name, md5 in sums.items()}
        train, test = ([whole[name] for name, _ in part] for part in (cifar.train_list, cifar.test_list))
        return split_of(train), split_of(test), tuple(map(str, whole[cifar.meta["filename"]][cifar.meta["key"]]))

    files = {name: batches / name for name in sums}
    with name_setting("root", folder):
        return open_arrays(store, which.lower(), files, read, size, seed, val_fraction, on_leak)


def read_batch(path: Path, md5: str, which: str) -> dict:
    """Return the content of a batch file.

    Raises:
        ValueError: for a file that is not the published one, or not a batch.
    """
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if checksum != md5:
            raise ValueError(f"{path} is damaged: its checksum is not that of the published {which}")
        file.seek(0)
        try:
            return read_pickle(file.read())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def split_of(batches: Sequence[dict]) -> Split:
    """Return images [N, 32, 32, 3] and (fine) labels of the batches, in order."""
    data = np.concatenate([batch["data"] for batch in batches])  # [N, 3 x 32 x 32]
    labels = [label for batch in batches for label in batch.get("labels", batch.get("fine_labels"))]
    return Split(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels))


def download(store: Store, cifar: type) -> Path:
    """Return the folder of the unpacked archive; the first call downloads it into the store."""
    from torchvision.datasets.utils import download_and_extract_archive

    name = cifar.__name__

    def fetch(to: Path) -> None:
        check_url(cifar.url)
        download_and_extract_archive(cifar.url, str(to), filename=cifar.filename, md5=cifar.tgz_md5)
        (to / cifar.filename).unlink()  # the archive; it is unpacked now

    try:
        return store.get_or_create("downloads", name.lower(), fetch)
    except Exception as error:  # URLError, RuntimeError for a wrong checksum
        if is_write_error(error):
            raise
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded ({' '.join(str(error).split())})\n"
            f"Download {cifar.url}, unpack it and set data.root=<the folder that holds {cifar.base_folder}>"
        ) from error
