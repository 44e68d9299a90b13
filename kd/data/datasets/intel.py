"""Intel Image Classification: six kinds of scenery, 14,034 training and 3,000 test photographs of 150 x 150 pixels.

https://www.kaggle.com/datasets/puneet6060/intel-image-classification. Kaggle's archive nests every split once more
(``seg_train/seg_train/<class>/*.jpg``); trees without the second level, or with an outer folder, are read as well.
``seg_pred`` has no labels and is not used. The data set has label noise of its own: the notes count the images that are
in several classes.
"""

from __future__ import annotations

import os
from pathlib import Path

from kd.data.checks import folder_of, name_setting
from kd.data.class_folders import folders_in, list_classes
from kd.data.dataset import ImageDataset
from kd.data.datasets.folder import open_splits
from kd.data.files import printable
from kd.data.label_file import Listed
from kd.data.sizing import Sizing
from kd.runtime.connection import check_reachable
from kd.runtime.errors import is_write_error
from kd.store.store import Store

HANDLE = "puneet6060/intel-image-classification"
PAGE = f"https://www.kaggle.com/datasets/{HANDLE}"
SERVER = "https://api.kaggle.com"
HOSTED = ("KAGGLE_DATA_PROXY_URL", "TBE_RUNTIME_ADDR")  # set in Kaggle's and Colab's notebooks, which need no network


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    on_bad_file: str = "error",
    on_leak: str = "warn",
) -> ImageDataset:
    """Open the data set under ``root``; download it (about 350 MB, no credentials needed) if ``root`` is null."""
    top = folder_of(root) if root is not None else download()
    train, test = find_split(top, "seg_train"), find_split(top, "seg_test")
    with name_setting("root", top):
        splits = Listed(list_classes(train), list_classes(test), None)
        return open_splits(store, "intel", splits, size, seed, val_fraction, on_bad_file, on_leak)


def find_split(top: Path, split: str) -> Path:
    """Return the folder of class folders of ``split``, nested once or twice, in ``top`` or the one folder below."""
    around = [top / name for name in folders_in(top) if (top / name / split).is_dir()] if top.is_dir() else []
    for place in [top] if (top / split).is_dir() or len(around) != 1 else around:
        for folder in (place / split / split, place / split):
            if folder.is_dir():
                return folder
    raise FileNotFoundError(
        printable(f"no folder {split}/ in data.root={top} (looked for {(top / split).absolute()})") + "\n"
        f"data.root must be the unpacked archive of {PAGE}, the folder that holds seg_train and seg_test"
    )


def download() -> Path:
    """Return the folder of Kaggle's files; the first call downloads them into kagglehub's own cache."""
    import kagglehub
    import requests

    try:
        if not any(name in os.environ for name in HOSTED):
            check_reachable(lambda seconds: requests.head(SERVER, timeout=seconds))
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # no network, a proxy's answer, a full disk: kagglehub wraps none of them
        write_error = is_write_error(error)
        if write_error:
            raise OSError(
                f"Intel's images cannot be written to kagglehub's cache ({write_error})\n"
                "Set KAGGLEHUB_CACHE to a writable folder with 1 GB of free space"
            ) from error
        raise FileNotFoundError(
            f"Intel's images are not on this machine and could not be downloaded ({' '.join(str(error).split())})\n"
            f"Download {PAGE}, unpack it and set data.root=<the folder that holds seg_train and seg_test>"
        ) from error
