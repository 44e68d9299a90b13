"""Any data set with one folder per class: ``root/train/<class>/*`` and ``root/test/<class>/*``.

If there is neither a train nor a test folder, the class folders are in ``root`` itself, and a stratified part of every
class is set aside for the test. If there is a ``root/val/<class>/*``, it is the validation split; otherwise
``data.val_fraction`` of the training images is. layout.py finds other layouts, class_folders.py lists the classes, and
label_file.py reads labels from a file.

Every file in a class folder counts as an image, whatever its suffix. It is a bad file if Pillow cannot read it, and so
is a folder, a pipe or a broken link there. Hidden files and folders, ``__MACOSX``, ``Thumbs.db`` and ``desktop.ini``
are ignored, and so are files beside the class folders. Links are followed. readers/images.py decodes the images,
white_level.py scales those of more than 8 bits, and duplicates.py finds images that are in both splits. Nothing is ever
written beside the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.data import bit_depth
from kd.data.checks import folder_of, name_setting
from kd.data.class_folders import Part, folded, in_order, list_classes, listed
from kd.data.dataset import ImageDataset
from kd.data.decoded_cache import Allocation
from kd.data.files import printable
from kd.data.fingerprint import content_key
from kd.data.label_file import Listed, read_labels
from kd.data.layout import find_splits
from kd.data.listing import SPLITS, VAL, Listing, check_settings, decode_listing, open_decoded
from kd.data.readers.images import VERSION
from kd.data.sizing import Sizing
from kd.data.white_level import any_deep
from kd.runtime.user_warnings import warn_user
from kd.store.store import Store, digest


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
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
    """Open the tree under ``root`` as square RGB images, see ``Sizing``.

    Args:
        seed: of the validation split and of the test split, if that is set aside here.
        val_dir: name of the folder of validation images, None to take a part of the training images; "auto" finds
            val, valid or validation beside the other two.
        test_fraction: of every class; used only without a test folder.
        nested: whether files at any depth below a class folder belong to that class.
        labels: a file of ``path,label`` lines, read in place of folders.
        white: the level that is white in files of more than 8 bits; None detects it from all files.
        on_bad_file: "error" names all unreadable files, "skip" leaves them out and counts them in the notes.
        on_leak: "warn" names images that are in both training and test, in a warning and in the notes; "error" refuses
            them.

    Raises:
        FileNotFoundError, ValueError: for a tree with another layout, naming its content.
    """
    if root is None:
        raise ValueError("data=folder needs data.root=<folder>: it holds train/<class>/... and test/<class>/...")
    top = folder_of(root)
    if not top.is_dir():
        what = "is a file, not a folder" if top.is_file() else "is not a folder"
        raise FileNotFoundError(printable(f"data.root={root} {what} (looked for {top.absolute()})"))
    rest = (size, seed, val_fraction, on_bad_file, on_leak, test_fraction, white)
    if labels is not None:
        if nested:
            raise ValueError("data.nested=true reads folders, and data.labels reads a list of files: set only one")
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
                raise ValueError(f"{error}. data.val_dir=null ignores {printable(found.val)}") from error
        dataset = open_splits(store, "folder", tree, *rest)
        for remark in found.remarks:  # after opening: the preflight check stops before, so no remark appears twice
            warn_user(remark)
    return dataset


def open_splits(
    store: Store,
    name: str,
    splits: Listed,
    size: Sizing,
    seed: int,
    val_fraction: float,
    on_bad_file: str,
    on_leak: str,
    test_fraction: float = 0.2,
    white: float | None = None,
    labels_of_file: bool = False,
) -> ImageDataset:
    """Decode the listed files and open the result; without a test split, ``test_fraction`` is set aside for it.

    Args:
        labels_of_file: whether labels come from a file, so that the paths do not determine them.
    """
    check_settings(val_fraction, on_bad_file, on_leak, white)
    train, test, val = splits
    order = in_order(train.classes)
    classes = [printable(c) for c in order]
    settings: dict[str, Any] = {"version": VERSION, "on_bad_file": on_bad_file, **size.key}
    if order != sorted(order):
        settings["order"] = "numbers"
    files: dict[str, str] = {}
    labels, split_of = list[int](), list[int]()
    for number, part in enumerate((train, val, test)):
        hint = "; data.val_dir=null ignores it" if number == VAL and not labels_of_file else ""
        spelling = {} if part is None else matched(train, part, hint)
        for label, c in enumerate(order if part else ()):
            inside = part.classes[spelling[folded(c)]]
            files |= {f"{SPLITS[number]}/{c}/{file}": path for file, path in inside.items()}
            labels += [label] * len(inside)
            split_of += [number] * len(inside)
    if len(files) < len(labels):
        raise ValueError(f"{train.where}: two images have the same label/path. Rename the label that contains /")
    listing = Listing(train.where, classes, list(files), list(files.values()), np.array(labels), np.array(split_of))
    if test is None:
        settings |= {"seed": seed, "test_fraction": test_fraction}
    listing = listing.complete(test_fraction, seed)
    files = dict(zip(listing.names, listing.sources, strict=True))
    if labels_of_file:
        settings["labels"] = digest({"files": listing.names, "labels": listing.labels.tolist()})
    settings["content"] = content_key(store, files)
    deep = any_deep(store, settings["content"], files.values())
    if deep:
        settings |= {"white": white, "depth": bit_depth.VERSION}
    elif white is not None:
        warn_user(f"data.white={white}: no file of {name} holds more than 8 bits a channel, so it has no effect")

    def produce(allocate: Allocation) -> Mapping[str, Any]:
        return decode_listing(name, listing, allocate, size, on_bad_file, on_leak, white, deep)

    return open_decoded(store, name, settings, produce, size, seed, val_fraction, on_leak)


def matched(train: Part, other: Part, hint: str = "") -> dict[str, str]:
    """Return {folded name of a class: its spelling in ``other``}.

    Raises:
        ValueError: if the classes differ from those of ``train``.
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
