"""Read IDX, the format of MNIST and its successors (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

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

LARGEST = 2**31  # bytes that are unpacked at most; the largest of MNIST's successors has 640 MB
CHUNK = 2**20  # bytes read at a time, so that memory grows with the file and not with the size that its header claims
# MNIST's names; some mirrors write a dot in place of a dash
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def find_idx(folders: Iterable[Path]) -> dict[str, Path] | None:
    """Return {stem: file} from the first folder that holds all four files, None if no folder does."""
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
    """Return (train, test) from the four files of ``find_idx``; images are [N, H, W, 1]."""
    train_images, train_labels, test_images, test_labels = (
        read_idx(files[stem], 3 if "images" in stem else 1) for stem in STEMS
    )
    return Split(train_images[..., None], train_labels), Split(test_images[..., None], test_labels)


def open_idx(store: Store, name: str, files: dict[str, Path], classes: tuple[str, ...], *settings: Any) -> ImageDataset:
    """Return the data set of the four files of ``find_idx``; ``settings``: the other arguments of ``open_arrays``."""
    with name_setting("root", files[STEMS[0]].parent):
        return open_arrays(store, name, files, lambda: (*read_splits(files), classes), *settings)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array of an IDX file, in the shape of its header.

    Raises:
        ValueError: for a damaged file, one of another type or of another number of dimensions, or one that claims more
            than ``LARGEST`` bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\x00\x00\x08":
                raise ValueError(
                    f"{path} is not an IDX file of unsigned bytes: it starts with {head.hex(' ') or 'nothing'}"
                )
            if head[3] != dimensions:
                raise ValueError(f"{path} has {head[3]} dimensions but {dimensions} are expected: wrong file?")
            sides = file.read(4 * dimensions)
            shape = np.frombuffer(sides, ">u4").tolist() if len(sides) == 4 * dimensions else []
            size = math.prod(shape)
            if size > LARGEST:
                raise ValueError(f"{path} claims the shape {shape}, {size:,} bytes: at most {LARGEST:,} are read")
            data = bytearray()
            while len(data) <= size and (chunk := file.read(min(CHUNK, size + 1 - len(data)))):
                data += chunk  # up to one byte too many, so that gzip checks the checksum after the last byte
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    if not size or len(data) != size:
        count = f"more than {size}" if len(data) > size else len(data)
        raise ValueError(f"{path} is damaged: its header says {shape}, but {count} bytes follow it")
    return np.frombuffer(data, np.uint8).reshape(shape)
