"""The images that files are calibrated, chosen and tested on: those of the run, or those of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from kd.build import build_augment, build_dataset, name_setting
from kd.config.saved import read_saved
from kd.data.class_folders import entries, folded, folders_in
from kd.data.dataset import ImageDataset
from kd.data.files import printable
from kd.data.loader import Loader
from kd.export.source import Source, recorded
from kd.inference.description import Description
from kd.inference.preprocess import shown, stored_pixels
from kd.runtime.errors import first_line
from kd.runtime.text import did_you_mean, first_few
from kd.store.store import Store

CALIBRATION_IMAGES = 512
MOST_VALIDATION = 5000  # images of the validation split that choose among files; more would change nothing
BATCH = 64  # images of a calibration batch
ROOMS = ("kd.data.datasets", "kd.augment")
MOST_NAMED = 3  # in a message


class NoImages(Exception):
    """The data of a run cannot be had here.

    Args:
        reason: for the exported files, which may leave this machine: it holds no path.
        detail: for the user alone.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail or reason)
        self.reason = reason


class Part(NamedTuple):
    """Labelled images, as evaluation shows them."""

    targets: np.ndarray  # int64 [N]
    batches: Callable[[], Iterator[Tensor]]  # float32 [B, 3, S, S] in [0, 1], in the order of the targets


class Splits(NamedTuple):
    """Images for one export."""

    origin: str  # for the report
    calibration: Callable[[], Iterator[Tensor]]  # unlabelled training views, [B, 3, S, S] each
    calibration_count: int
    val: Part
    test: Part
    dataset: ImageDataset | None = None  # of the run
    recorded: Mapping[str, np.ndarray] | None = None  # of the run's test images: index, target, logits [N, K] by role


def splits_of_run(source: Source, trusted: bool, scratch: Path) -> Splits:
    """Return the images of a run, from its decoded data set.

    Args:
        trusted: let its settings name code outside kd. scratch: an empty folder, to decode the data into if the run is
            not in an outputs folder.

    Raises:
        NoImages: the data are not there, or are others than those that the run was tested on.
        FileNotFoundError, ValueError: a file of the run is missing or damaged, or names code that is not trusted.
    """
    cfg = read_saved(source.run / "config.yaml", ("data", "augment"), ROOMS, trusted)
    run = recorded(source.run)
    try:
        with name_setting(cfg, "data"):
            dataset = build_dataset(cfg, Store(_store_folder(source, cfg, scratch)))
    except (ValueError, OSError) as error:
        raise NoImages("the data of the run cannot be read here", first_line(error)) from error
    if dataset.classes != source.model.classes:
        raise NoImages(f"the classes of the data are {_named(dataset.classes)}, and not those of the student")
    size = min(BATCH, len(dataset.train))
    return _of_dataset(source, dataset, Loader(dataset, size, 0, source.device.device, augment=build_augment(cfg)), run)


def _store_folder(source: Source, cfg: Any, scratch: Path) -> Path:
    folders = (source.outputs, Path(str(cfg.get("outputs") or "outputs")).expanduser())
    return next((folder for folder in folders if folder is not None and folder.is_dir()), scratch)


def _of_dataset(source: Source, dataset: ImageDataset, loader: Loader, run: dict[str, np.ndarray]) -> Splits:
    targets = dataset.targets[dataset.test]
    if not np.array_equal(targets, run.get("target")):
        raise NoImages("the test images are not those of the run's predictions.npz: the data have changed")
    val = dataset.val
    if len(val) > MOST_VALIDATION:
        val = np.sort(np.random.default_rng(0).choice(val, MOST_VALIDATION, replace=False))
    batch = source.model.description.eval_batch

    def part(positions: np.ndarray) -> Part:
        batches = loader.eval_batches
        return Part(dataset.targets[positions], lambda: (each.image for each in batches(positions, batch)))

    steps = min(loader.steps, max(1, CALIBRATION_IMAGES // loader.batch_size))

    def views() -> Iterator[Tensor]:
        return (each.image for each, _ in zip(loader.epoch(0), range(steps), strict=False))

    origin = f"the run's own {dataset.name}"
    return Splits(origin, views, steps * loader.batch_size, part(val), part(dataset.test), dataset, run)


def splits_of_folder(folder: Path, description: Description) -> Splits:
    """Return the images of a folder of class folders: half of each class is tested, the other half chooses.

    Raises:
        FileNotFoundError, ValueError: no such folder, a folder that is no class, no images, or a file that is none.
    """
    files, labels = _list(folder, description)
    position = np.concatenate([np.arange(count) for count in np.bincount(labels) if count])
    is_test = position % 2 == 0  # a class with one image is tested
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(partial(_decode, description=description), files))

    def part(rows: np.ndarray) -> Part:
        def batches() -> Iterator[Tensor]:
            for start in range(0, len(rows), BATCH):
                yield shown(np.stack([pixels[row] for row in rows[start : start + BATCH]]), description)

        return Part(labels[rows], batches)

    test, val = part(np.flatnonzero(is_test)), part(np.flatnonzero(~is_test))
    few = part(np.random.default_rng(0).permutation(np.flatnonzero(~is_test))[:CALIBRATION_IMAGES])
    return Splits(f"the folder {name_of(folder)}", few.batches, len(few.targets), val, test)


def _list(folder: Path, description: Description) -> tuple[list[Path], np.ndarray]:
    """Return the files of all class folders and their labels, class after class."""
    if not folder.is_dir():
        raise FileNotFoundError(f"--images {folder} is not a folder: it must hold a folder for each class")
    names = {folded(name): number for number, name in enumerate(description.classes)}
    found = folders_in(folder)
    for name in found:
        if folded(name) not in names:
            raise ValueError(
                f"--images {folder}: {printable(name)} is no class of the student{printable(did_you_mean(name, names))}"
                f"; its classes are {_named(description.classes)}"
            )
    files, labels = list[Path](), list[int]()
    for name in sorted(found, key=lambda name: names[folded(name)]):
        inside = [folder / name / file for file in entries(folder / name)]
        files += inside
        labels += [names[folded(name)]] * len(inside)
    if not files:
        raise ValueError(f"--images {folder} holds no images: it must hold a folder for each class, with its images")
    return files, np.array(labels)


def _decode(path: Path, description: Description) -> np.ndarray:
    try:
        return stored_pixels(path, description)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ValueError(f"{printable(path)} is not an image that can be read: {error}") from error


def name_of(folder: Path) -> str:
    """Return the last name of a folder: the rest of its path is of this machine alone."""
    return printable(folder.resolve().name)


def _named(classes: Sequence[str]) -> str:
    return first_few(map(printable, classes), MOST_NAMED)


def no_images(reason: str) -> str:
    """Return the words of the report where no images are at hand."""
    return f"No test images were at hand ({reason}): --images FOLDER tests on a folder for each class"
