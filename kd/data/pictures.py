"""A decoded data set: what every ``kd/data/<name>.py`` returns and the loader reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.augment import Augment
from kd.store import SHORT, Store, digest

FORMAT = 1  # of the published folder; raise it when other files stand there


@dataclass(frozen=True)
class Pictures:
    """All images of a data set, decoded, with its three splits."""

    name: str
    images: np.ndarray  # uint8 [N, H, W, C], C 1 or 3, memory-mapped; train first, then test
    targets: np.ndarray  # int64 [N]
    classes: tuple[str, ...]
    train: np.ndarray  # positions, int64
    val: np.ndarray
    test: np.ndarray
    mean: tuple[float, float, float]  # of the training split, images in [0, 1]
    std: tuple[float, float, float]
    augment: Augment  # how a training view is made
    fingerprint: str  # content of images, targets and splits: what keys are made of
    notes: Mapping[str, Any] = field(default_factory=dict)  # for the report: files left out and the like

    @property
    def image_size(self) -> int:
        return self.images.shape[1]


def decode_once(
    store: Store,
    name: str,
    settings: Mapping[str, Any],
    produce: Callable[[Callable[[int, tuple[int, int, int]], np.ndarray]], Mapping[str, Any]],
) -> Path:
    """Return the folder of the decoded arrays, made at the first call and memory-mapped at every later one.

    Args:
        settings: what determines the pixels (content of the source, size, version of the code), plain values.
        produce: gets ``allocate(count, (H, W, C))``, which returns a uint8 array on disk to fill, and returns
            ``{"targets": [N], "classes": [...], "train_count": n, "notes": {...}}``: the training images (those
            that may be split for validation) come first. Fewer targets than allocated images mean that the first
            ``len(targets)`` images count.
    """

    def make(folder: Path) -> None:
        print(f"{name}: decoding every picture once", flush=True)
        opened: list[np.ndarray] = []

        def allocate(count: int, shape: tuple[int, int, int]) -> np.ndarray:
            opened.append(np.lib.format.open_memmap(folder / "all.npy", "w+", np.uint8, (count, *shape)))
            return opened[0]

        about = produce(allocate)
        targets = np.asarray(about["targets"], np.int64)
        images = opened[0]
        images.flush()
        if len(targets) == len(images):
            (folder / "all.npy").rename(folder / "images.npy")
        else:  # some files were left out: keep the rows that were filled
            np.save(folder / "images.npy", images[: len(targets)])
            (folder / "all.npy").unlink()
        np.save(folder / "targets.npy", targets)
        images = np.load(folder / "images.npy", mmap_mode="r")
        np.save(folder / "sums.npy", channel_sums(images))
        content = hashlib.sha256(images)
        content.update(targets)
        meta = {
            "name": name,
            "classes": list(about["classes"]),
            "train_count": int(about["train_count"]),
            "notes": dict(about.get("notes", {})),
            "content": content.hexdigest(),
        }
        (folder / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8")

    return store.obtain("data", f"{name}-{digest({**settings, 'format': FORMAT})[:SHORT]}", make)


def open_decoded(folder: Path, augment: Augment, seed: int, val_fraction: float) -> Pictures:
    """Open what ``decode_once`` left and split it: stratified, by ``data.seed`` alone."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    images = np.load(folder / "images.npy", mmap_mode="r")
    targets = np.load(folder / "targets.npy")
    train, val = stratified_split(targets[: meta["train_count"]], val_fraction, seed)
    sums = np.load(folder / "sums.npy")
    mean, std = channel_statistics(sums[train], pixels=images.shape[1] * images.shape[2])
    classes = tuple(meta["classes"])
    return Pictures(
        name=meta["name"],
        images=images,
        targets=targets,
        classes=classes,
        train=train,
        val=val,
        test=np.arange(meta["train_count"], len(targets)),
        mean=mean,
        std=std,
        augment=augment,
        fingerprint=digest(
            {
                "content": meta["content"],
                "train_count": meta["train_count"],
                "classes": classes,
                "seed": seed,
                "val_fraction": val_fraction,
            }
        ),
        notes=meta["notes"],
    )


def stratified_split(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into (rest, ``fraction`` of every class), at least one image of each class on either side.

    Raises:
        ValueError: for a fraction outside (0, 1) or a class with fewer than two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"data.val_fraction must lie between 0 and 1, got {fraction}")
    generator = np.random.default_rng(seed)
    taken = []
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        if len(members) < 2:
            raise ValueError(f"class {label} has {len(members)} training image: at least 2 are needed to split")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        taken.append(generator.permutation(members)[:count])
    val = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(targets)), val), val


def channel_sums(images: np.ndarray) -> np.ndarray:
    """Return [N, 2, C] int64: sum and sum of squares of every image's channels, so that no start reads all pixels."""
    sums = np.empty((len(images), 2, images.shape[3]), np.int64)
    for row, image in enumerate(images):
        pixels = image.reshape(-1, image.shape[2]).astype(np.float64)  # integers below 2^53: exact
        sums[row] = pixels.sum(0), (pixels * pixels).sum(0)
    return sums


def channel_statistics(sums: np.ndarray, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each of three channels, images in [0, 1].

    Args:
        sums: [N, 2, C], rows of ``channel_sums``. pixels: of one image, H x W.
    """
    first, second = sums.sum(0) / (len(sums) * pixels)
    mean, std = first / 255, np.sqrt(np.maximum(second - first**2, 0)) / 255
    std = np.maximum(std, 1e-6)  # a channel without contrast must not divide by zero
    repeat = 3 // sums.shape[2]
    return tuple(mean.tolist() * repeat), tuple(std.tolist() * repeat)
