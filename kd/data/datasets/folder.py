"""Any data set that lies in one folder per class: ``root/train/<class>/*`` and ``root/test/<class>/*``.

Where there is neither a train nor a test folder, the class folders stand in ``root`` itself and a stratified part of
every class is set aside for the test. Beside the two, ``root/val/<class>/*`` validates; without it a part of the
training images does, ``data.val_fraction``. layout.py has what else is found, listing.py the classes, and labels.py
labels from a file. Every file in a class folder is taken for an image, whatever its suffix, and is a bad file if Pillow
cannot read it, as is a folder, a pipe or a link to nowhere among them; hidden files and folders, ``__MACOSX``,
``Thumbs.db`` and ``desktop.ini`` are ignored, and so are files beside the class folders. Links are followed. See
decode.py for what happens to an image, white.py for those of more than 8 bits, and duplicates.py for images that stand in
both splits. Nothing is ever written beside the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.data import bit_depth
from kd.data.augment import Augment
from kd.data.bit_depth import White
from kd.data.checks import (
    SMALLEST,
    check_above,
    check_choice,
    check_class_counts,
    check_fraction,
    check_int,
    folder_of,
    name_setting,
)
from kd.data.class_folders import Part, folded, in_order, list_classes, listed
from kd.data.dataset import ImageDataset
from kd.data.decoded_cache import decode_to_cache, open_cached
from kd.data.duplicates import check_setting, find_duplicates, refuse_duplicates, warn_duplicates
from kd.data.files import printable
from kd.data.fingerprint import content_key
from kd.data.label_file import Listed, read_labels
from kd.data.layout import find_splits
from kd.data.readers.images import VERSION, decode_into
from kd.data.splits import stratified_split
from kd.data.white_level import any_deep, find_white
from kd.runtime.console import print_line
from kd.runtime.user_warnings import warn_user
from kd.store.store import Store, digest

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = ("train", "val", "test")


def load(
    store: Store,
    augment: Augment,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    image_size: int = 100,
    train_dir: str = "train",
    test_dir: str = "test",
    val_dir: str | None = "auto",
    test_fraction: float = 0.2,
    nested: bool = False,
    labels: str | None = None,
    white: float | None = None,
    on_bad_file: str = "error",
    on_leak: str = "warn",
) -> ImageDataset:
    """Open the tree under ``root``; images are squashed to ``image_size`` x ``image_size`` RGB.

    Args:
        seed: of the validation split and, where a test part has to be set aside, of that too.
        val_dir: name of the folder that validates, None for a part of the training images; "auto" finds val, valid
            or validation beside the other two.
        test_fraction: of every class, used only where there is no test part.
        nested: whether what lies below a class folder, at any depth, is of that class.
        labels: a file of ``path,label`` lines that says which files there are, in place of folders.
        white: the level that is white in files of more than 8 bits; None finds it from all files.
        on_bad_file: "error" names all files that cannot be read, "skip" leaves them out and says so in the notes.
        on_leak: "warn" names the images that stand in training and test, there and in the notes, "error" refuses.

    Raises:
        FileNotFoundError, ValueError: for a tree of another shape, naming what was found.
    """
    if root is None:
        raise ValueError("data=folder needs data.root=<folder>: it holds train/<class>/... and test/<class>/...")
    top = folder_of(root)
    if not top.is_dir():
        what = "is a file, not a folder" if top.is_file() else "is not a folder"
        raise FileNotFoundError(printable(f"data.root={root} {what} (looked for {top.absolute()})"))
    rest = (augment, seed, val_fraction, image_size, on_bad_file, on_leak, test_fraction, white)
    if labels is not None:
        if nested:
            raise ValueError("data.nested=true reads folders, and data.labels says which files there are: say one")
        with name_setting("labels", labels):
            listing = read_labels(labels, top, on_bad_file == "skip")
            return open_splits(store, "folder", listing, *rest, labels_of_file=True)
    with name_setting("root", top):
        found = find_splits(top, str(train_dir), str(test_dir), None if val_dir is None else str(val_dir), nested)
        tree = Listed(*(folder and list_classes(folder, nested) for folder in (found.train, found.test)), None)
        if found.val:
            try:
                tree = tree._replace(val=list_classes(found.val, nested))
            except ValueError as error:
                raise ValueError(f"{error}. data.val_dir=null leaves {printable(found.val)} out") from error
        dataset = open_splits(store, "folder", tree, *rest)
        for remark in found.remarks:  # here, or a command that is tried out before it is run would say them twice
            warn_user(remark)
    return dataset


def open_splits(
    store: Store,
    name: str,
    splits: Listed,
    augment: Augment,
    seed: int,
    val_fraction: float,
    image_size: int,
    on_bad_file: str,
    on_leak: str,
    test_fraction: float = 0.2,
    white: float | None = None,
    labels_of_file: bool = False,
) -> ImageDataset:
    """Decode what was listed and open the result; without a test split ``test_fraction`` is set aside for it.

    Args:
        labels_of_file: whether the names of the files do not say their class, as those of a tree do.
    """
    check_int("image_size", image_size, SMALLEST, unit="pixels")
    check_fraction("val_fraction", val_fraction)
    check_choice("on_bad_file", on_bad_file, ("error", "skip"))
    check_setting(on_leak)
    if white is not None:
        check_above("white", white, 0)
    train, test, val = splits
    order = in_order(train.classes)
    classes = [printable(c) for c in order]
    settings: dict[str, Any] = {"version": VERSION, "image_size": image_size, "on_bad_file": on_bad_file}
    if order != sorted(order):
        settings["order"] = "numbers"
    files: dict[str, str] = {}
    labels, split_of = list[int](), list[int]()
    for number, part in enumerate((train, val, test)):
        hint = "; data.val_dir=null leaves it out" if number == VAL and not labels_of_file else ""
        same = {} if part is None else matched(train, part, hint)
        for label, c in enumerate(order if part else ()):
            inside = part.classes[same[folded(c)]]
            files |= {f"{SPLITS[number]}/{c}/{file}": path for file, path in inside.items()}
            labels += [label] * len(inside)
            split_of += [number] * len(inside)
    if len(files) < len(labels):
        raise ValueError(f"{train.where}: a label and a path together name another image too. Rename the label with /")
    least = 2 if val is None else 1
    apart = np.array(split_of)
    if test is None:
        check_fraction("test_fraction", test_fraction)
        training = np.flatnonzero(apart == TRAIN)
        told = "training, validation and test" if val is None else "training and test"
        check_class_counts(
            np.array(labels)[training], classes, least + 1, f"{train.where}, where {told} take from every class"
        )
        _, aside = stratified_split(np.array(labels)[training], test_fraction, seed)
        apart[training[aside]] = TEST
        settings |= {"seed": seed, "test_fraction": test_fraction}
    elif val is None:
        check_class_counts(
            np.array(labels)[apart == TRAIN],
            classes,
            2,
            f"{train.where}, where training and validation take from every class",
        )
    rows, names = np.argsort(apart, kind="stable"), list(files)
    files, labels, apart = {names[row]: files[names[row]] for row in rows}, [labels[row] for row in rows], apart[rows]
    if labels_of_file:
        settings["labels"] = digest({"files": list(files), "labels": labels})

    def produce(allocate: Any) -> Mapping[str, Any]:
        found = find_white(name, files, white) if deep else None
        if found and found.line:
            print_line(found.line)
        images = allocate(len(files), (image_size, image_size, 3))
        kept, notes = decode_into(images, files, on_bad_file, found.white if found else White())
        targets, where = np.array(labels)[kept], apart[kept]
        check_class_counts(targets[where == TRAIN], classes, least, "the files that can be read")
        if val is not None:
            check_class_counts(targets[where == VAL], classes, 1, "the validation files that can be read")
        check_class_counts(targets[where == TEST], classes, 1, "the test files that can be read")
        names = list(files)

        def named(row: int) -> str:
            return printable(names[kept[row]])

        notes |= find_duplicates(
            images[: len(kept)], targets, where != TEST, named, None if val is None else where == VAL
        )
        if on_leak == "warn":
            warn_duplicates(name, notes)
        counts = {"train_count": (where == TRAIN).sum()} | ({} if val is None else {"val_count": (where == VAL).sum()})
        levels = {"white": found.white, "notes": {**found.notes, **notes}} if found else {"notes": notes}
        return {"targets": targets, "classes": classes, **counts, **levels}

    settings["content"] = content_key(store, files)
    deep = any_deep(store, settings["content"], files.values())
    if deep:
        settings |= {"white": white, "depth": bit_depth.VERSION}
    elif white is not None:
        warn_user(f"data.white={white}: no file of {name} holds more than 8 bits a channel, so it changes nothing")
    dataset = open_cached(decode_to_cache(store, name, settings, produce), augment, seed, val_fraction)
    if on_leak == "error":
        refuse_duplicates(name, dataset.notes)
    return dataset


def matched(train: Part, other: Part, hint: str = "") -> dict[str, str]:
    """Return {name of a class, folded: as ``other`` writes it}.

    Raises:
        ValueError: where the classes are not those of ``train``.
    """
    ours, theirs = ({folded(name): name for name in part.classes} for part in (train, other))
    if set(ours) != set(theirs):
        only_ours, only_theirs = (
            [one[name] for name in one if name not in two] for one, two in ((ours, theirs), (theirs, ours))
        )
        raise ValueError(
            f"the two splits have different classes: only in {train.where}: {listed(only_ours) or 'none'}; "
            f"only in {other.where}: {listed(only_theirs) or 'none'}{hint}"
        )
    return theirs
