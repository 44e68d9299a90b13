"""CIFAR-100: CIFAR-10's format with a hundred fine classes, 500 training and 100 test images each (Krizhevsky 2009).

https://www.cs.toronto.edu/~kriz/cifar.html. The usual benchmark of papers on distillation.
"""

from __future__ import annotations

from kd.data.dataset import ImageDataset
from kd.data.datasets.cifar10 import open_cifar
from kd.data.sizing import Sizing
from kd.store.store import Store


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    on_leak: str = "warn",
) -> ImageDataset:
    """Open ``root``, which holds ``cifar-100-python``; download the data set (161 MB) if ``root`` is null."""
    return open_cifar(store, "CIFAR100", size, seed, val_fraction, root, on_leak)
