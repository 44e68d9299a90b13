"""IDX, the format of MNIST and of the sets that took its place (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kd.data.arrays import Split

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
    train_images, train_labels, test_images, test_labels = (read_idx(files[stem]) for stem in STEMS)
    return Split(train_images[..., None], train_labels), Split(test_images[..., None], test_labels)


def read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array of an IDX file, in the shape that its header states.

    Raises:
        ValueError: for a damaged file, or one of another type.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes: it starts with {data[:4].hex(' ') or 'nothing'}")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4).tolist() if len(data) >= 4 + 4 * dimensions else []
    start = 4 + 4 * dimensions
    if not shape or len(data) - start != math.prod(shape):
        raise ValueError(f"{path} is damaged: its header says {shape}, but {max(len(data) - start, 0)} bytes follow it")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
