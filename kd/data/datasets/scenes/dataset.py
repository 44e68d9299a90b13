"""Drawn scenes: six classes with the names of Intel Image Classification, made from a seed without a download.

This is the default data set, so that a first run needs no network. Buildings, forest, glacier, mountain, sea and street
are painted as polygons back to front, in perspective, from palettes that all classes share: light (day, dusk, night,
fog, storm), season, haze, camera height, tilt and zoom, clutter in front, hills or houses in the background. A camera
at the end measures exposure and white balance as real ones do, so colour says little about the class and shape says
more. The hard cases are those of photographs: an ice field against a snowy ridge, a lagoon of icebergs against the sea,
a facade close up against a street of houses, a wood with a path against an avenue.

An image is a pure function of (drawing seed, split, position), so the counts do not change what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from kd.data.checks import check_fraction, check_int, check_range
from kd.data.dataset import ImageDataset
from kd.data.datasets.scenes.camera import develop
from kd.data.datasets.scenes.classes import CLASSES, SCENES
from kd.data.datasets.scenes.painter import Painter
from kd.data.datasets.scenes.surroundings import clutter
from kd.data.decoded_cache import decode_to_cache, open_cached
from kd.data.sizing import Sizing
from kd.store.store import Store

DRAWING_VERSION = 3  # raise it when a pixel changes: it is part of the key of the decoded arrays


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.12,
    train_images: int = 4200,
    test_images: int = 1200,
    drawing_seed: int = 0,
    label_noise: float = 0.12,
) -> ImageDataset:
    """Return the scenes: drawn at the first call, reused by later ones.

    Args:
        seed: of the split into training and validation only; ``drawing_seed`` determines the images.
        train_images: for training and validation together; ``val_fraction`` of them are the validation split.
        label_noise: share of these images that carry the label of another class; test labels are always right.

    Raises:
        ValueError: for a size or a count out of range.
    """
    check_int(
        "image_size" if size.stored_size is None else "stored_size",
        size.stored,
        16,
        128,
        unit="pixels for drawn scenes",
    )
    check_int("train_images", train_images, 2 * len(CLASSES), unit="so that each split has every class")
    check_int("test_images", test_images, len(CLASSES), unit="so that each class is tested")
    check_int("drawing_seed", drawing_seed, 0)
    check_fraction("val_fraction", val_fraction)
    check_range("label_noise", label_noise, 0, 0.99)

    def produce(allocate: Callable) -> dict:
        images = allocate(train_images + test_images, (size.stored, size.stored, 3))
        places = [(0, i) for i in range(train_images)] + [(1, i) for i in range(test_images)]
        for row, (split, position) in enumerate(tqdm(places, desc="drawing scenes", unit="image", disable=None)):
            images[row] = draw(drawing_seed, split, position, size.stored)
        targets = [label(drawing_seed, split, position, label_noise) for split, position in places]
        wrong = sum(target != position % len(CLASSES) for target, (_, position) in zip(targets, places, strict=True))
        notes = {"training images with a wrong label, on purpose": wrong}
        return {"targets": targets, "classes": CLASSES, "train_count": train_images, "notes": notes}

    settings = {
        "label_noise": label_noise,
        "image_size": size.stored,
        "train_images": train_images,
        "test_images": test_images,
        "drawing_seed": drawing_seed,
        "version": DRAWING_VERSION,
    }
    return open_cached(decode_to_cache(store, "scenes", settings, produce), size, seed, val_fraction)


def draw(drawing_seed: int, split: int, position: int, image_size: int) -> np.ndarray:
    """Return the image at ``position`` of a split (0 train, 1 test), uint8 [H, W, 3], of class ``position % 6``."""
    seeds = np.random.SeedSequence([drawing_seed, split, position])
    generator = np.random.Generator(np.random.PCG64(seeds))
    painter = Painter(generator)
    SCENES[CLASSES[position % len(CLASSES)]](painter)
    if painter.chance(0.45):
        clutter(painter)
    return develop(painter, generator, image_size)


def label(drawing_seed: int, split: int, position: int, noise: float) -> int:
    """Return the label of an image: its class, or another one for a share ``noise`` of the training images."""
    true = position % len(CLASSES)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([drawing_seed, split, position, 1])))
    if split == 1 or generator.random() >= noise:
        return true
    return int((true + generator.integers(1, len(CLASSES))) % len(CLASSES))
