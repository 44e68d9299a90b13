"""From a list of labelled images to a decoded data set: for every source of images that are decoded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kd.data import bit_depth
from kd.data.bit_depth import White
from kd.data.checks import check_above, check_choice, check_class_counts, check_fraction
from kd.data.dataset import ImageDataset
from kd.data.decoded_cache import Allocation, decode_to_cache, open_cached
from kd.data.duplicates import check_setting, find_duplicates, refuse_duplicates, warn_duplicates
from kd.data.files import printable
from kd.data.readers.images import VERSION, decode_into
from kd.data.sizing import Sizing
from kd.data.sources import Source
from kd.data.splits import stratified_split
from kd.data.white_level import any_deep, find_white
from kd.runtime.console import print_line
from kd.store.store import Store

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = ("train", "val", "test")


class Listing(NamedTuple):
    """Labelled images, before they are decoded."""

    where: str  # the data set in messages
    classes: Sequence[str]
    names: Sequence[str]  # of the images, in messages; all different
    sources: Sequence[Source]
    labels: np.ndarray  # int64 [N]
    split: np.ndarray  # int64 [N]: TRAIN, VAL or TEST
    may_lack: bool = False  # whether classes without images are allowed: a published list of classes, and a part of it

    @property
    def has(self) -> frozenset[int]:
        """The splits that have images."""
        return frozenset(np.unique(self.split).tolist())

    @property
    def least(self) -> int:
        """The training images that each class needs: of two, one validates."""
        return 1 if VAL in self.has else 2

    def complete(self, test_fraction: float, seed: int) -> Listing:
        """Return it with all splits that come from files, in the order training, validation, test.

        Without test images, ``test_fraction`` of the training images of each class is set aside.

        Raises:
            ValueError: for classes with too few images.
        """
        split, least = self.split, self.least
        if TEST not in self.has:
            check_fraction("test_fraction", test_fraction)
            training = np.flatnonzero(split == TRAIN)
            parts = "training and test" if VAL in self.has else "training, validation and test"
            where = f"{self.where}, which is split into {parts}"
            self.check(self.labels[training], least + 1, where)
            _, aside = stratified_split(self.labels[training], test_fraction, seed)
            split = split.copy()
            split[training[aside]] = TEST
        elif least > 1:
            where = f"{self.where}, which is split into training and validation"
            self.check(self.labels[split == TRAIN], least, where)
        rows = np.argsort(split, kind="stable")
        names, sources = ([each[row] for row in rows] for each in (self.names, self.sources))
        return self._replace(names=names, sources=sources, labels=self.labels[rows], split=split[rows])

    def check(self, labels: np.ndarray, least: int, where: str) -> None:
        """Raise ValueError unless every class has ``least`` of these labels."""
        classes = self.classes
        if self.may_lack:
            present, labels = np.unique(labels, return_inverse=True)
            classes = [classes[label] for label in present]
            if not classes:
                raise ValueError(f"there is no image in {where}")
        check_class_counts(labels, classes, least, where)


def check_settings(val_fraction: float, on_bad_file: str, on_leak: str, white: float | None) -> None:
    """Raise ValueError for a setting out of range, before anything is read."""
    check_fraction("val_fraction", val_fraction)
    check_choice("on_bad_file", on_bad_file, ("error", "skip"))
    check_setting(on_leak)
    if white is not None:
        check_above("white", white, 0)


def open_listing(
    store: Store,
    name: str,
    settings: Mapping[str, Any],
    make: Callable[[], Listing],
    size: Sizing,
    seed: int,
    val_fraction: float,
    on_bad_file: str,
    on_leak: str,
    white: float | None = None,
) -> ImageDataset:
    """Return the data set of ``make()``, a complete listing; it is called at the first call only.

    Args:
        settings: everything that determines the listing: "content", the key of its files, and how they are read.
        white: the level that is white in files of more than 8 bits; None detects it.
    """

    def produce(allocate: Allocation) -> Mapping[str, Any]:
        listing = make()
        deep = any_deep(store, settings["content"], listing.sources)
        return decode_listing(name, listing, allocate, size, on_bad_file, on_leak, white, deep)

    depth = {"depth": bit_depth.VERSION, **({} if white is None else {"white": white})}
    key = {"version": VERSION, "on_bad_file": on_bad_file, **depth, **size.key, **settings}
    return open_decoded(store, name, key, produce, size, seed, val_fraction, on_leak)


def open_decoded(
    store: Store,
    name: str,
    key: Mapping[str, Any],
    produce: Callable[[Allocation], Mapping[str, Any]],
    size: Sizing,
    seed: int,
    val_fraction: float,
    on_leak: str,
) -> ImageDataset:
    """Return the data set of ``decode_to_cache``; with ``on_leak="error"``, without leaks."""
    dataset = open_cached(decode_to_cache(store, name, key, produce), size, seed, val_fraction)
    if on_leak == "error":
        refuse_duplicates(name, dataset.notes)
    return dataset


def decode_listing(
    name: str,
    listing: Listing,
    allocate: Allocation,
    size: Sizing,
    on_bad_file: str,
    on_leak: str,
    white: float | None,
    deep: bool,
) -> Mapping[str, Any]:
    """Decode a complete listing; return what ``decode_to_cache`` wants of its ``produce``.

    Args:
        deep: whether a file has more than 8 bits a channel, for which ``white`` is needed or found.
    """
    files = dict(zip(listing.names, listing.sources, strict=True))
    found = find_white(name, files, white) if deep else None
    if found and found.line:
        print_line(found.line)
    images, journal = allocate.resume(len(files), (size.stored, size.stored, 3))
    kept, notes = decode_into(images, files, on_bad_file, found.white if found else White(), size.fit, journal)
    if "shapes" in notes:
        print_line(f"{name}: {notes['shapes']}")
    targets, split, own_val = listing.labels[kept], listing.split[kept], VAL in listing.has
    parts = {TRAIN: (listing.least, "files"), VAL: (1, "validation files"), TEST: (1, "test files")}
    for part in sorted(listing.has):
        least, what = parts[part]
        listing.check(targets[split == part], least, f"the {what} that can be read")

    def name_row(row: int) -> str:
        return printable(listing.names[kept[row]])

    in_val = split == VAL if own_val else None
    notes |= find_duplicates(images[: len(kept)], targets, split != TEST, name_row, in_val)
    if on_leak == "warn":
        warn_duplicates(name, notes)
    counts = {"train_count": (split == TRAIN).sum()} | ({"val_count": (split == VAL).sum()} if own_val else {})
    levels = {"white": found.white, "notes": {**found.notes, **notes}} if found else {"notes": notes}
    return {"targets": targets, "classes": listing.classes, **counts, **levels}
