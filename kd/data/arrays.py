"""Open data sets that come as arrays of images of one size (IDX files, CIFAR batches) and cache them decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kd.data.checks import check_fraction
from kd.data.dataset import ImageDataset
from kd.data.decoded_cache import decode_to_cache, open_cached
from kd.data.duplicates import check_setting, find_duplicates, refuse_duplicates, warn_duplicates
from kd.data.fingerprint import content_key
from kd.data.sizing import Sizing, to_square
from kd.runtime.text import first_few
from kd.store.store import Store

VERSION = 2  # raise it when the same arrays give other pixels or other notes


class Split(NamedTuple):
    """Images and labels of one split."""

    images: np.ndarray  # uint8 [N, H, W, C], C 1 or 3
    labels: np.ndarray  # integers [N]


def open_arrays(
    store: Store,
    name: str,
    files: Mapping[str, Path],
    read: Callable[[], tuple[Split, Split, tuple[str, ...]]],
    size: Sizing,
    seed: int,
    val_fraction: float,
    on_leak: str,
) -> ImageDataset:
    """Return the data set of ``read()``, which returns (train, test, classes) and runs at the first call only.

    Later calls reuse the decoded arrays, found by the content of ``files``.

    Raises:
        ValueError: for images and labels that do not match, or leaks with ``on_leak="error"``.
    """
    check_fraction("val_fraction", val_fraction)
    check_setting(on_leak)

    def produce(allocate: Any) -> Mapping[str, Any]:
        try:
            train, test, classes = read()
        except OSError as error:  # in a data file; an error in the store has a message of its own
            raise ValueError(str(error)) from error
        check(f"{name}: training", train, classes)
        check(f"{name}: test", test, classes)
        if len(set(train.labels.tolist())) < 2:
            raise ValueError(f"{name}: all training images are of one class, {classes[train.labels[0]]}")
        count = len(train.images) + len(test.images)
        images = allocate(count, (size.stored, size.stored, train.images.shape[3]))
        resize_into(images[: len(train.images)], train.images, size.fit)
        resize_into(images[len(train.images) :], test.images, size.fit)
        targets, first = np.concatenate([train.labels, test.labels]), len(train.labels)

        def place(row: int) -> str:
            return f"training image {row}" if row < first else f"test image {row - first}"

        notes = find_duplicates(images, targets, np.arange(count) < first, place)
        if on_leak == "warn":
            warn_duplicates(name, notes)
        return {"targets": targets, "classes": classes, "train_count": first, "notes": notes}

    content = content_key(store, {label: str(path) for label, path in files.items()})
    settings = {"version": VERSION, "content": content, **size.key}
    dataset = open_cached(decode_to_cache(store, name, settings, produce), size, seed, val_fraction)
    if on_leak == "error":
        refuse_duplicates(name, dataset.notes)
    return dataset


def check(where: str, part: Split, classes: Sequence[str]) -> None:
    """Raise ValueError for images and labels of different counts, and for labels without a class."""
    if len(part.images) != len(part.labels):
        raise ValueError(f"{where}: {len(part.images)} images but {len(part.labels)} labels")
    found = set(part.labels.tolist())
    wrong = sorted(label for label in found if not 0 <= label < len(classes))
    if wrong or not found:
        named = first_few(wrong, 10) or "none at all"
        raise ValueError(f"{where}: labels must lie in 0..{len(classes) - 1}, found {named}")


def resize_into(images: np.ndarray, source: np.ndarray, fit: str) -> None:
    """Fill ``images`` [N, S, S, C] from ``source`` [N, H, W, C], resized (bilinear, antialiased) if sizes differ."""
    if images.shape == source.shape:
        images[:] = source
        return
    size, channels = images.shape[1], images.shape[3]
    for row, image in enumerate(source):
        pixels = Image.fromarray(image if channels == 3 else image[..., 0])
        images[row] = np.asarray(to_square(pixels, size, fit)).reshape(size, size, channels)
