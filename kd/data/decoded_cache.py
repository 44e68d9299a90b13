"""Decode images once into a memory-mapped array, beside their channel sums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.bit_depth import White
from kd.data.dataset import ImageDataset
from kd.data.journal import Journal
from kd.data.sizing import Sizing
from kd.data.splits import stratified_split
from kd.runtime.console import print_line
from kd.runtime.errors import first_line
from kd.store.files import give_name, preallocate_npy
from kd.store.store import KEY_DIGITS, Store, digest, shortened

IMAGES, JOURNAL = "images.npy", "rows.jsonl"
FORMAT = 1  # of the published folder; raise it when its files change


class Allocation:
    """Makes the array on disk that is filled with images, uint8 [count, H, W, C].

    Args:
        folder: is published. unfinished: outlives a kill, on the same file system.
    """

    def __init__(self, folder: Path, unfinished: Path):
        self.folder, self.unfinished = folder, unfinished

    def __call__(self, count: int, shape: tuple[int, int, int]) -> np.ndarray:
        """Return a new array."""
        return preallocate_npy(self.folder / IMAGES, (count, *shape), np.uint8)

    def resume(self, count: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, Journal]:
        """Return the array that a killed process left, or a new one, with the journal of its complete rows."""
        path = self.unfinished / IMAGES
        self.unfinished.mkdir(parents=True, exist_ok=True)
        try:
            images = np.load(path, mmap_mode="r+")
        except (OSError, EOFError, ValueError):
            images = None
        if images is None or images.shape != (count, *shape) or images.dtype != np.uint8:
            (self.unfinished / JOURNAL).unlink(missing_ok=True)
            images = preallocate_npy(path, (count, *shape), np.uint8)
        journal = Journal(self.unfinished / JOURNAL, images)
        if journal.done:
            done = sum(map(len, journal.done.values()))
            print_line(f"{done:,} of {count:,} images are decoded already: going on there")
        return images, journal

    def finish(self, count: int) -> Path:
        """Return the file of the images, in the folder that is published, cut to ``count`` rows."""
        path = self.folder / IMAGES
        if not path.exists():
            give_name(self.unfinished / IMAGES, path)
        shorten(path, count)
        return path

    def discard(self) -> None:
        """Remove what is unfinished."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        with suppress(OSError):  # others are unfinished
            self.unfinished.parent.rmdir()


def decode_to_cache(
    store: Store, name: str, settings: Mapping[str, Any], produce: Callable[[Allocation], Mapping[str, Any]]
) -> Path:
    """Return the folder of the decoded arrays; the first call makes it, later calls reuse it.

    Args:
        settings: everything that determines the pixels (content of the source, size, version of the code), as plain
            values.
        produce: gets ``allocate(count, (H, W, C))``, which returns a uint8 array on disk to fill (or
            ``allocate.resume``, to go on after a kill), and returns
            ``{"targets": [N], "classes": [...], "train_count": n, "notes": {...}}``. The training images (from which
            validation images may be taken) come first. With ``"val_count"``, the next ``val_count`` images are the
            validation split, and none is taken from the training images. ``"white"`` is the ``White`` of files of
            more than 8 bits. With fewer targets than allocated images, the first ``len(targets)`` images are kept.
    """

    published = f"{shortened(name)}-{digest({**settings, 'format': FORMAT})[:KEY_DIGITS]}"

    def make(folder: Path) -> None:
        print_line(f"{name}: decoding every image once")
        allocation = Allocation(folder, store.partial_dir("data", published))
        try:
            _write(folder, name, allocation, produce(allocation))
        except Exception:  # such as a bad file or a full disk, but neither a kill nor Ctrl-C
            allocation.discard()
            raise
        with suppress(OSError), (folder / IMAGES).open("rb") as file:
            os.fsync(file.fileno())  # it may take minutes; what is left of the publication is quick
        allocation.discard()

    return store.get_or_create("data", published, make)


def _write(folder: Path, name: str, allocation: Allocation, result: Mapping[str, Any]) -> None:
    """Complete the folder with what ``produce`` returned."""
    targets = np.asarray(result["targets"], np.int64)
    images = np.load(allocation.finish(len(targets)), mmap_mode="r")
    preallocate_npy(folder / "targets.npy", targets.shape, np.int64)[:] = targets
    preallocate_npy(folder / "sums.npy", (len(images), 2, images.shape[3]), np.int64)[:] = channel_sums(images)
    content = hashlib.sha256(images)
    content.update(targets)
    meta = {
        "name": name,
        "classes": list(result["classes"]),
        "train_count": int(result["train_count"]),
        "notes": dict(result.get("notes", {})),
        "content": content.hexdigest(),
    }
    meta |= {"val_count": int(result["val_count"])} if "val_count" in result else {}
    meta |= {"white": _to_json(result["white"])} if "white" in result else {}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8")


def shorten(path: Path, count: int) -> None:
    """Keep the first ``count`` rows of an ``.npy`` file, in place: a copy would need the disk space twice."""
    array = np.load(path, mmap_mode="r")
    if len(array) == count:
        return
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False}
    end = array.offset + count * array[0].nbytes
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *array.shape[1:])})
        assert file.tell() == array.offset  # numpy pads the header for another count
        file.truncate(end)


def open_cached(folder: Path, size: Sizing, seed: int, val_fraction: float) -> ImageDataset:
    """Open the folder of ``decode_to_cache`` with its own validation split, or a stratified one drawn from ``seed``.

    Raises:
        ValueError: for files that are damaged or do not match, with the folder to remove.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r")
        targets, sums = np.load(folder / "targets.npy"), np.load(folder / "sums.npy")
        classes, train_count = tuple(meta["classes"]), meta["train_count"]
        val_count = meta.get("val_count")
        if images.ndim != 4 or not len(images) == len(targets) == len(sums) > train_count + (val_count or 0) > 0:
            raise ValueError(f"{images.shape} images, {len(targets)} labels, {train_count} of them for training")
        name, content, notes = meta["name"], meta["content"], meta["notes"]
        white = White(meta["white"]["value"], meta["white"]["said"]) if "white" in meta else White()
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(
            f"the decoded data set in {folder} is damaged ({first_line(error)}). Remove that folder; "
            "the same command decodes it again"
        ) from error
    split = {"seed": seed, "val_fraction": val_fraction}
    if val_count is None:
        train, val = stratified_split(targets[:train_count], val_fraction, seed, classes)
    else:  # independent of the seed
        train, val = np.arange(train_count), np.arange(train_count, train_count + val_count)
        split = {"val_count": val_count}
    mean, std = channel_statistics(sums[train], pixels=images.shape[1] * images.shape[2])
    return ImageDataset(
        name=name,
        images=images,
        targets=targets,
        classes=classes,
        train=train,
        val=val,
        test=np.arange(len(train) + len(val), len(targets)),
        mean=mean,
        std=std,
        fingerprint=digest({"content": content, "train_count": train_count, "classes": classes, **split, **size.shown}),
        notes=notes,
        size=size,
        white=white,
    )


def _to_json(white: White) -> dict[str, Any]:
    return {"value": white.value, "said": white.given}


def channel_sums(images: np.ndarray) -> np.ndarray:
    """Return [N, 2, C] int64: sum and sum of squares of each image's channels, so that no run reads all pixels."""
    sums = np.empty((len(images), 2, images.shape[3]), np.int64)
    for row, image in enumerate(images):
        pixels = image.reshape(-1, image.shape[2]).astype(np.float64)  # integers below 2^53: exact
        sums[row] = pixels.sum(0), (pixels * pixels).sum(0)
    return sums


def channel_statistics(sums: np.ndarray, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each of three channels, for images in [0, 1].

    Args:
        sums: [N, 2, C], rows of ``channel_sums``. pixels: H x W of one image.
    """
    first, second = sums.sum(0) / (len(sums) * pixels)
    mean, std = first / 255, np.sqrt(np.maximum(second - first**2, 0)) / 255
    std = np.maximum(std, 1e-6)  # avoids a division by zero in a channel without contrast
    repeat = 3 // sums.shape[2]
    return tuple(mean.tolist() * repeat), tuple(std.tolist() * repeat)
