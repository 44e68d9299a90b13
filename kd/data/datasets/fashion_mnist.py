"""Fashion-MNIST: 70,000 grey 28 x 28 images of Zalando's articles in ten classes (Xiao et al. 2017).

https://arxiv.org/abs/1708.07747, https://github.com/zalandoresearch/fashion-mnist (MIT licence). Grey images: C is 1.
"""

from __future__ import annotations

from pathlib import Path

from kd.data.checks import folder_of
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.readers.idx import STEMS, find_idx, open_idx
from kd.data.sizing import Sizing
from kd.runtime.connection import check_url
from kd.runtime.errors import is_write_error
from kd.store.store import Store

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    on_leak: str = "warn",
) -> ImageDataset:
    """Open the four IDX files in ``root``; null takes Debian's package or downloads the files (31 MB)."""
    if root is None:
        files = find_idx([DEBIAN]) or download(store)
    else:
        top = folder_of(root)
        files = find_idx([top, top / "FashionMNIST" / "raw"])
        if files is None:
            raise FileNotFoundError(
                f"data.root={printable(root)} (or FashionMNIST/raw in it) must hold the four files {', '.join(STEMS)}, "
                "each with or without .gz"
            )
    return open_idx(store, "fashion_mnist", files, CLASSES, size, seed, val_fraction, on_leak)


def download(store: Store) -> dict[str, Path]:
    """Return the IDX files; at the first call torchvision downloads them into the store."""
    from torchvision.datasets import FashionMNIST

    def fetch(to: Path) -> None:
        check_url(FashionMNIST.mirrors[0])
        FashionMNIST(to, download=True)

    try:
        folder = store.get_or_create("downloads", "fashion_mnist", fetch)
    except Exception as error:  # URLError, RuntimeError, a proxy's error page in place of a gzip file
        if is_write_error(error):
            raise
        raise FileNotFoundError(
            f"Fashion-MNIST is not on this machine and could not be downloaded ({' '.join(str(error).split())})\n"
            f"Install Debian's package dataset-fashion-mnist (it fills {DEBIAN}) or set data.root=<folder of IDX files>"
        ) from error
    return find_idx([folder / "FashionMNIST" / "raw"])
