"""Images without labels beside a data set: the student learns from the teacher alone there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kd.data.bit_depth import VERSION as DEPTH
from kd.data.checks import folder_of, name_setting
from kd.data.class_folders import files_below
from kd.data.dataset import ImageDataset, Unlabelled
from kd.data.decoded_cache import IMAGES, Allocation, decode_to_cache
from kd.data.files import printable
from kd.data.fingerprint import content_key
from kd.data.readers.images import VERSION, memory_for, opened, upright
from kd.data.readers.parallel import fill_rows
from kd.data.sizing import to_square
from kd.data.splits import stratified_split
from kd.store.store import Store, digest


def add_unlabelled(store: Store, dataset: ImageDataset, folder: str, on_bad_file: str = "error") -> ImageDataset:
    """Return the data set with all images in ``folder`` and the folders below, decoded as its own are.

    Labels, splits and fingerprint stay as they are, and so do the keys of teachers and baselines.

    Raises:
        ValueError: there is no image, or one that cannot be read (with ``on_bad_file="error"``).
    """
    top, side, channels = folder_of(folder), dataset.images.shape[1], dataset.images.shape[3]
    fit = dataset.size.fit if dataset.size else "crop"
    with name_setting("unlabelled", folder):
        files = {name: f"{top}/{name}" for name in files_below(top)}
        if not files:
            raise ValueError(f"there is no file in {printable(top)}")

        def produce(allocate: Allocation) -> Mapping[str, Any]:
            paths = list(files.values())
            images, journal = allocate.resume(len(files), (side, side, channels))

            def fill(row: int) -> tuple[int, int]:
                with opened(paths[row]) as image, memory_for(image):
                    rgb = upright(image, dataset.white)
                    square = to_square(rgb, side, fit)
                    images[row] = square if channels == 3 else np.asarray(square.convert("L"))[..., None]
                    return rgb.size

            kept, notes, _ = fill_rows(images, list(files), fill, on_bad_file, journal)
            if not len(kept):
                raise ValueError(f"no file in {printable(top)} can be read as an image")
            return {"targets": np.full(len(kept), -1), "classes": (), "train_count": 0, "notes": notes}

        settings = {"version": VERSION, "depth": DEPTH, "side": side, "channels": channels, "fit": fit}
        settings |= {"white": list(dataset.white), "on_bad_file": on_bad_file, "content": content_key(store, files)}
        made = decode_to_cache(store, "unlabelled", settings, produce)
    meta = json.loads((made / "meta.json").read_text(encoding="utf-8"))
    images = np.load(made / IMAGES, mmap_mode="r")
    notes = {**dataset.notes, "unlabelled_images": len(images)}
    notes |= {f"unlabelled_{name}": value for name, value in meta["notes"].items()}
    shown = dataset.size.shown if dataset.size else {}
    return replace(dataset, unlabelled=Unlabelled(images, digest({"content": meta["content"], **shown})), notes=notes)


def hide_labels(dataset: ImageDataset, share: float, seed: int) -> ImageDataset:
    """Return the data set with the labels of only a share of each class of the training images, at least one of each.

    Validation and test stay as they are. ``hidden`` are the other training images, which only students see.

    Args:
        share: in (0, 1). seed: of the choice of images; of more of them, it chooses these and others.

    Raises:
        ValueError: for a share outside (0, 1), or a class with a single training image.
    """
    parts = "images with labels and images without"
    targets, classes = dataset.targets[dataset.train], dataset.classes
    hidden, kept = stratified_split(targets, share, seed, classes, "labelled", parts)
    notes = {**dataset.notes, "labelled_images": len(kept), "images_with_hidden_labels": len(hidden)}
    fingerprint = digest({"data": dataset.fingerprint, "labelled": share, "seed": seed})
    train = dataset.train
    return replace(dataset, train=train[kept], hidden=train[hidden], fingerprint=fingerprint, notes=notes)
