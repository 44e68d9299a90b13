"""CIFAR-10: 60,000 colour pictures of 32 x 32 pixels in ten classes (Krizhevsky 2009), 10,000 of them for the test.

https://www.cs.toronto.edu/~kriz/cifar.html. ``open_cifar`` serves CIFAR-100 as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd.data.arrays import Split, open_arrays
from kd.data.augment import Augment
from kd.data.pictures import Pictures
from kd.store import Store


def load(
    store: Store,
    augment: Augment,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    image_size: int = 32,
) -> Pictures:
    """Open ``root``, which holds ``cifar-10-batches-py``, or download the set (163 MB) where ``root`` is null."""
    return open_cifar(store, "CIFAR10", augment, seed, val_fraction, root, image_size)


def open_cifar(
    store: Store, which: str, augment: Augment, seed: int, val_fraction: float, root: str | None, image_size: int
) -> Pictures:
    """Open torchvision's ``which`` ("CIFAR10" or "CIFAR100"); torchvision checks the checksums of all batches."""
    from torchvision import datasets

    cifar = getattr(datasets, which)
    folder = Path(root).expanduser() if root is not None else download(store, cifar)
    batches = folder / cifar.base_folder
    names = [name for name, _ in (*cifar.train_list, *cifar.test_list)] + [cifar.meta["filename"]]
    missing = [name for name in names if not (batches / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"data.root={root} must hold {cifar.base_folder}/ with {', '.join(names)}; missing: {', '.join(missing)}"
        )

    def read() -> tuple[Split, Split, tuple[str, ...]]:
        try:
            train, test = cifar(folder, train=True), cifar(folder, train=False)
        except RuntimeError as error:
            raise ValueError(f"a file in {batches} is damaged: its checksum is not that of {which}") from error
        splits = (Split(part.data, np.array(part.targets)) for part in (train, test))
        return *splits, tuple(train.classes)

    files = {name: batches / name for name in names}
    return open_arrays(store, which.lower(), files, read, augment, seed, val_fraction, image_size)


def download(store: Store, cifar: type) -> Path:
    """Return the folder that torchvision filled at the first call, in the store."""
    name = cifar.__name__

    def fetch(to: Path) -> None:
        cifar(to, download=True)
        (to / cifar.filename).unlink()  # the archive: its content lies beside it now

    try:
        return store.obtain("downloads", name.lower(), fetch)
    except Exception as error:  # URLError, RuntimeError for a wrong checksum
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded ({' '.join(str(error).split())})\n"
            f"Fetch {cifar.url}, unpack it and say data.root=<the folder that holds {cifar.base_folder}>"
        ) from error
