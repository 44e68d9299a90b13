"""IDX, the format of MNIST and of the sets that took its place (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.arrays import Split, open_arrays
from kd.data.checks import name_setting
from kd.data.dataset import ImageDataset
from kd.store.store import Store

LARGEST = 2**31  # bytes that are unpacked; the largest of MNIST's kin has 640 MB
PIECE = 2**20  # bytes read at a time, so that memory follows what is there and not what is claimed
# MNIST's own names; some mirrors write a dot where the original has a dash
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def find_idx(folders: Iterable[Path]) -> dict[str, Path] | None:
    """Return {stem: file} from the first folder that holds all four files, None where there is no such folder."""
    for folder in folders:
        found = {}
        for stem in STEMS:
            for name in (stem, stem.replace("-idx", ".idx")):
                for file in (folder / name, folder / f"{name}.gz"):
                    if file.is_file():
                        found.setdefault(stem, file)
        if len(found) == len(STEMS):
            return found
    return None


def read_splits(files: dict[str, Path]) -> tuple[Split, Split]:
    """Read (train, test) from the four files that ``find_idx`` found; images are [N, H, W, 1]."""
    train_images, train_labels, test_images, test_labels = (
        read_idx(files[stem], 3 if "images" in stem else 1) for stem in STEMS
    )
    return Split(train_images[..., None], train_labels), Split(test_images[..., None], test_labels)


def open_idx(store: Store, name: str, files: dict[str, Path], classes: tuple[str, ...], *how: Any) -> ImageDataset:
    """Open the four files of ``find_idx``; ``how``: augment, seed and so on, as ``open_arrays`` takes them."""
    with name_setting("root", files[STEMS[0]].parent):
        return open_arrays(store, name, files, lambda: (*read_splits(files), classes), *how)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array of an IDX file, in the shape that its header states.

    Raises:
        ValueError: for a damaged file, one of another type or of another number of dimensions, or one that claims more
            than ``LARGEST`` bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\x00\x00\x08":
                raise ValueError(
                    f"{path} is no IDX file of unsigned bytes: it starts with {head.hex(' ') or 'nothing'}"
                )
            if head[3] != dimensions:
                raise ValueError(f"{path} has {head[3]} dimensions, and {dimensions} are expected: is it another file?")
            sides = file.read(4 * dimensions)
            shape = np.frombuffer(sides, ">u4").tolist() if len(sides) == 4 * dimensions else []
            size = math.prod(shape)
            if size > LARGEST:
                raise ValueError(f"{path} claims {shape}, {size:,} bytes: at most {LARGEST:,} are read")
            data = bytearray()
            while len(data) <= size and (piece := file.read(min(PIECE, size + 1 - len(data)))):
                data += piece  # one byte more than there should be, and so to the checksum behind the last
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    if not size or len(data) != size:
        follow = f"more than {size}" if len(data) > size else len(data)
        raise ValueError(f"{path} is damaged: its header says {shape}, but {follow} bytes follow it")
    return np.frombuffer(data, np.uint8).reshape(shape)
