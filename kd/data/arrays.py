"""Data sets that come as whole arrays of equal images (IDX files, CIFAR's batches) into the decoded store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kd.data.augment import Augment
from kd.data.content import content_key
from kd.data.pictures import Pictures, decode_once, open_decoded
from kd.store import Store

VERSION = 1  # raise it when the same arrays would give other pixels


class Split(NamedTuple):
    """Images and labels of one split."""

    images: np.ndarray  # uint8 [N, H, W, C], C 1 or 3
    labels: np.ndarray  # integers [N]


def open_arrays(
    store: Store,
    name: str,
    files: Mapping[str, Path],
    read: Callable[[], tuple[Split, Split, tuple[str, ...]]],
    augment: Augment,
    seed: int,
    val_fraction: float,
    image_size: int,
) -> Pictures:
    """Open what ``read()`` returns (train, test, classes), read at the first call and found by ``files`` afterwards.

    Raises:
        ValueError: for an ``image_size`` below 8, or labels and images that do not belong together.
    """
    if image_size < 8:
        raise ValueError(f"data.image_size must be at least 8 pixels, got {image_size}")

    def produce(allocate: Any) -> Mapping[str, Any]:
        train, test, classes = read()
        for split, part in (("training", train), ("test", test)):
            if len(part.images) != len(part.labels):
                raise ValueError(f"{name}: {len(part.images)} {split} images but {len(part.labels)} labels")
            if len(part.labels) == 0 or part.labels.max() >= len(classes) or part.labels.min() < 0:
                found = np.unique(part.labels).tolist()
                raise ValueError(f"{name}: {split} labels must lie in 0..{len(classes) - 1}, found {found}")
        count = len(train.images) + len(test.images)
        images = allocate(count, (image_size, image_size, train.images.shape[3]))
        resize_into(images[: len(train.images)], train.images)
        resize_into(images[len(train.images) :], test.images)
        targets = np.concatenate([train.labels, test.labels])
        return {"targets": targets, "classes": classes, "train_count": len(train.labels)}

    content = content_key(store, {label: str(path) for label, path in files.items()})
    settings = {"version": VERSION, "image_size": image_size, "content": content}
    return open_decoded(decode_once(store, name, settings, produce), augment, seed, val_fraction)


def resize_into(images: np.ndarray, source: np.ndarray) -> None:
    """Fill ``images`` [N, S, S, C] with ``source`` [N, H, W, C], bilinear and antialiased where the size differs."""
    if images.shape == source.shape:
        images[:] = source
        return
    size, channels = images.shape[1], images.shape[3]
    for row, image in enumerate(source):
        pixels = Image.fromarray(image if channels == 3 else image[..., 0])
        pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
        images[row] = np.asarray(pixels).reshape(size, size, channels)
