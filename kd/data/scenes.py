"""Drawn scenes: six classes with the names of Intel Image Classification, made from a seed without a file to download.

The default data set, so that a first run needs no network. Buildings, forest, glacier, mountain, sea and street are
painted as polygons back to front, in perspective, from palettes that all classes share: light (day, dusk, night, fog,
storm), season, haze, camera height, tilt and zoom, clutter in front, hills or houses behind. A camera at the end
measures exposure and white balance as real ones do, so colour says little and the picture says it.
What stays hard is what is hard in photographs: an ice field against a snowy ridge, a lagoon of icebergs against the
sea, a facade close up against a street of houses, a wood with a path against an avenue.

An image is a pure function of (drawing seed, split, position): counts can change without changing what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from kd.data.augment import Augment
from kd.data.checks import between, share, whole
from kd.data.painter import Painter
from kd.data.pictures import Pictures, decode_once, open_decoded
from kd.data.scenery import CLASSES, SCENES, clutter
from kd.store import Store

DRAWING_VERSION = 3  # raise it whenever a pixel changes: it is part of the key of the decoded arrays


def load(
    store: Store,
    augment: Augment,
    seed: int = 0,
    val_fraction: float = 0.12,
    image_size: int = 48,
    train_images: int = 4200,
    test_images: int = 1200,
    drawing_seed: int = 0,
    label_noise: float = 0.12,
) -> Pictures:
    """Draw the scenes at the first call and open them at every later one.

    Args:
        seed: of the split into training and validation alone; ``drawing_seed`` is that of the pictures.
        train_images: drawn for training and validation together, of which ``val_fraction`` validates.
        label_noise: share of these that carry the name of another class; test labels are always right.

    Raises:
        ValueError: for a size or a count that cannot be drawn.
    """
    whole("image_size", image_size, 16, 128, unit="pixels for drawn scenes")
    whole("train_images", train_images, 2 * len(CLASSES), unit="so that each split has every class")
    whole("test_images", test_images, len(CLASSES), unit="so that each class is tested")
    whole("drawing_seed", drawing_seed, 0)
    share("val_fraction", val_fraction)
    between("label_noise", label_noise, 0, 0.99)

    def produce(allocate: Callable) -> dict:
        images = allocate(train_images + test_images, (image_size, image_size, 3))
        places = [(0, i) for i in range(train_images)] + [(1, i) for i in range(test_images)]
        for row, (split, position) in enumerate(tqdm(places, desc="drawing scenes", unit="image", disable=None)):
            images[row] = draw(drawing_seed, split, position, image_size)
        targets = [label(drawing_seed, split, position, label_noise) for split, position in places]
        wrong = sum(target != position % len(CLASSES) for target, (_, position) in zip(targets, places, strict=True))
        notes = {"training images with a wrong label, on purpose": wrong}
        return {"targets": targets, "classes": CLASSES, "train_count": train_images, "notes": notes}

    settings = {
        "label_noise": label_noise,
        "image_size": image_size,
        "train_images": train_images,
        "test_images": test_images,
        "drawing_seed": drawing_seed,
        "version": DRAWING_VERSION,
    }
    return open_decoded(decode_once(store, "scenes", settings, produce), augment, seed, val_fraction)


def draw(drawing_seed: int, split: int, position: int, image_size: int) -> np.ndarray:
    """Return the picture at ``position`` of a split (0 train, 1 test), uint8 [H, W, 3], of class ``position % 6``."""
    seeds = np.random.SeedSequence([drawing_seed, split, position])
    generator = np.random.Generator(np.random.PCG64(seeds))
    painter = Painter(generator)
    SCENES[CLASSES[position % len(CLASSES)]](painter)
    if painter.chance(0.45):
        clutter(painter)
    return develop(painter, generator, image_size)


def label(drawing_seed: int, split: int, position: int, noise: float) -> int:
    """Return the label of a picture: its class, or for a share ``noise`` of the training pictures another one."""
    true = position % len(CLASSES)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([drawing_seed, split, position, 1])))
    if split == 1 or generator.random() >= noise:
        return true
    return int((true + generator.integers(1, len(CLASSES))) % len(CLASSES))


def develop(p: Painter, generator: np.random.Generator, size: int) -> np.ndarray:
    """The camera: blur, reduction, automatic exposure and white balance, vignette, noise, grain. Blind to the class."""
    image = p.image
    image = image.filter(ImageFilter.BoxBlur(p.between(0.2, 2.6)))
    x = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    mean, std = x.mean((0, 1)), x.std((0, 1))
    grey = p.between(70, 165)
    cast = np.array([p.between(-18, 18), p.between(-8, 8), p.between(-18, 18)], np.float32)
    spread = p.between(28, 62)
    trust = np.float32(p.between(0.1, 0.7))  # how far the camera follows its meter
    new_mean = mean + trust * (grey + cast - mean)
    new_std = std + trust * (spread - std)
    x = (x - mean) * np.minimum(new_std / np.maximum(std, 4), 4) + new_mean
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    x *= 1 - np.float32(p.between(0, 0.25)) * (ramp[:, None] ** 2 + ramp[None, :] ** 2)[..., None] / 2
    x += generator.standard_normal(x.shape, np.float32) * np.float32(p.between(1, 8))
    x += grain(generator, size) * np.float32(p.between(3, 16))
    return np.clip(x + 0.5, 0, 255).astype(np.uint8)


def grain(generator: np.random.Generator, size: int) -> np.ndarray:
    """Film grain three pixels wide, mostly grey, [size, size, 3] of about unit variance.

    It covers the textures that a few small filters live on (bricks, leaves, waves) and leaves the shapes.
    """
    coarse = generator.standard_normal((2 + size // 3, 2 + size // 3, 3), np.float32)
    coarse = 0.3 * coarse + 0.7 * coarse.mean(-1, keepdims=True)
    enlarged = [Image.fromarray(coarse[..., c]).resize((size, size), Image.Resampling.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(channel) for channel in enlarged], -1)
