"""Oracle-MNIST: 30,222 grey 28 x 28 rubbings of ten characters of the oracle bone script (Wang & Deng 2024).

"A dataset of oracle characters for benchmarking machine learning algorithms", Scientific Data 11,
https://doi.org/10.1038/s41597-024-02933-w, https://github.com/wm-bupt/oracle-mnist. The files have MNIST's format and
names. Three thousand years in the ground left cracks and noise. Grey images: C is 1.
"""

from __future__ import annotations

from kd.data.checks import folder_of
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.readers.idx import STEMS, find_idx, open_idx
from kd.data.sizing import Sizing
from kd.store.store import Store

CLASSES = ("big", "sun", "moon", "cattle", "next", "field", "not", "arrow", "time", "wood")
PAGE = "https://github.com/wm-bupt/oracle-mnist"


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    on_leak: str = "warn",
) -> ImageDataset:
    """Open the four IDX files in ``root``: their folder, or a clone of the authors' repository."""
    top = folder_of(root) if root is not None else None
    files = find_idx([top, top / "data" / "oracle"]) if top else None
    if files is None:
        what = f"data.root={printable(root)} does not hold the files" if top else "data=oracle_mnist needs data.root"
        raise FileNotFoundError(
            f"{what}: a folder with {', '.join(STEMS)}, each with or without .gz\n"
            f"git clone {PAGE} downloads them (14 MB, in data/oracle); then set data.root=<the clone>"
        )
    return open_idx(store, "oracle_mnist", files, CLASSES, size, seed, val_fraction, on_leak)
