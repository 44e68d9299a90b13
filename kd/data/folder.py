"""Any data set that lies in one folder per class: ``root/train/<class>/*`` and ``root/test/<class>/*``.

Where there is neither a train nor a test folder, the class folders stand in ``root`` itself and a stratified part of
every class is set aside for the test. Classes are sorted by name. Every file in a class folder is taken for an image,
whatever its suffix, and is a bad file if Pillow cannot read it; hidden files and folders, ``__MACOSX``, ``Thumbs.db``
and ``desktop.ini`` are ignored, and so are files beside the class folders. See decode.py for what happens to an image.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.augment import Augment
from kd.data.content import content_key
from kd.data.decode import VERSION, decode_into
from kd.data.pictures import Pictures, decode_once, open_decoded, stratified_split
from kd.store import Store

IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}
Tree = dict[str, list[str]]  # {class: [file name]}, both sorted


def load(
    store: Store,
    augment: Augment,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | None = None,
    image_size: int = 100,
    train_dir: str = "train",
    test_dir: str = "test",
    test_fraction: float = 0.2,
    on_bad_file: str = "error",
) -> Pictures:
    """Open the tree under ``root``; images are squashed to ``image_size`` x ``image_size`` RGB.

    Args:
        seed: of the validation split and, where a test part has to be set aside, of that too.
        test_fraction: of every class, used only where ``root`` holds neither ``train_dir`` nor ``test_dir``.
        on_bad_file: "error" names all files that cannot be read, "skip" leaves them out and says so in the notes.

    Raises:
        FileNotFoundError, ValueError: for a tree of another shape, naming what was found.
    """
    if root is None:
        raise ValueError("data=folder needs data.root=<folder>: it holds train/<class>/... and test/<class>/...")
    top = Path(root).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(f"data.root={root} is not a folder (looked for {top.absolute()})")
    train, test = top / train_dir, top / test_dir
    if train.is_dir() != test.is_dir():
        there, missing = (train, test) if train.is_dir() else (test, train)
        setting = "test_dir" if train.is_dir() else "train_dir"
        beside = [entry.name for entry in _entries(top) if entry.is_dir() and entry.name != there.name]
        raise ValueError(
            f"{top} has {there.name}/ but no {missing.name}/. Name the other split with data.{setting}=... "
            f"(beside it: {', '.join(beside) or 'no folder'}), or set a part of one split aside with data.root={there}"
        )
    if not train.is_dir():
        train, test = top, None
    return open_tree(store, "folder", train, test, augment, seed, val_fraction, image_size, on_bad_file, test_fraction)


def open_tree(
    store: Store,
    name: str,
    train: Path,
    test: Path | None,
    augment: Augment,
    seed: int,
    val_fraction: float,
    image_size: int,
    on_bad_file: str,
    test_fraction: float = 0.2,
) -> Pictures:
    """Decode two folders of class folders, or one of which ``test_fraction`` is set aside, and open the result."""
    if image_size < 8:
        raise ValueError(f"data.image_size must be at least 8 pixels, got {image_size}")
    if on_bad_file not in ("error", "skip"):
        raise ValueError(f"data.on_bad_file must be 'error' or 'skip', got {on_bad_file!r}")
    tree = list_classes(train)
    classes = list(tree)
    files = {f"train/{c}/{file}": f"{train}/{c}/{file}" for c in classes for file in tree[c]}
    labels = [label for label, c in enumerate(classes) for _ in tree[c]]
    settings: dict[str, Any] = {"version": VERSION, "image_size": image_size, "on_bad_file": on_bad_file}
    if test is None:
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction}")
        _need(labels, classes, 3, f"{train}, where training, validation and test take from every class")
        kept, aside = stratified_split(np.array(labels), test_fraction, seed)
        train_count, order = len(kept), np.concatenate([kept, aside])
        names = list(files)
        files, labels = {names[i]: files[names[i]] for i in order}, [labels[i] for i in order]
        settings |= {"seed": seed, "test_fraction": test_fraction}
    else:
        _need(labels, classes, 2, f"{train}, where training and validation take from every class")
        other = list_classes(test)
        if list(other) != classes:
            only_train, only_test = sorted(set(classes) - set(other)), sorted(set(other) - set(classes))
            raise ValueError(
                f"the two splits have different classes: only in {train}: {', '.join(only_train) or 'none'}; "
                f"only in {test}: {', '.join(only_test) or 'none'}"
            )
        train_count = len(files)
        files |= {f"test/{c}/{file}": f"{test}/{c}/{file}" for c in classes for file in other[c]}
        labels += [label for label, c in enumerate(classes) for _ in other[c]]

    def produce(allocate: Any) -> Mapping[str, Any]:
        images = allocate(len(files), (image_size, image_size, 3))
        kept, notes = decode_into(images, files, on_bad_file)
        targets, in_train = np.array(labels)[kept], kept < train_count
        _need(targets[in_train], classes, 2, "the files that can be read")
        _need(targets[~in_train], classes, 1, "the test files that can be read")
        notes |= _twins(images, targets, in_train)
        return {"targets": targets, "classes": classes, "train_count": in_train.sum(), "notes": notes}

    settings["content"] = content_key(store, files)
    return open_decoded(decode_once(store, name, settings, produce), augment, seed, val_fraction)


def list_classes(folder: Path) -> Tree:
    """Return {class: file names} of a folder of class folders.

    Raises:
        ValueError: for fewer than two class folders, an empty one, or one that holds folders.
    """
    tree: Tree = {}
    for entry in _entries(folder):
        if not entry.is_dir():
            continue
        inside = _entries(entry.path)
        folders = [item.name for item in inside if item.is_dir()]
        if folders:
            raise ValueError(
                f"the class folder {entry.path} holds folders ({', '.join(folders[:5])}): only images are expected "
                "there. Does data.root stand one level too high?"
            )
        tree[entry.name] = [item.name for item in inside]
    empty = [name for name, files in tree.items() if not files]
    if len(tree) < 2:
        raise ValueError(f"at least 2 class folders are needed, {folder} holds {', '.join(tree) or 'none'}")
    if empty:
        raise ValueError(f"class folders without any file in {folder}: {', '.join(empty)}")
    return tree


def _entries(folder: str | Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED]
    return sorted(visible, key=lambda entry: entry.name)


def _need(labels: Iterable[int], classes: list[str], least: int, where: str) -> None:
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes))
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < least]
    if few:
        raise ValueError(f"too few images, at least {least} a class are needed in {where}: {', '.join(few)}")


def _twins(images: np.ndarray, targets: np.ndarray, in_train: np.ndarray) -> dict[str, int]:
    """Count pictures that stand, pixel for pixel, in several classes (label noise) or in both splits (a leak)."""
    seen: dict[bytes, set[tuple[int, bool]]] = defaultdict(set)
    for row, (label, train) in enumerate(zip(targets.tolist(), in_train.tolist(), strict=True)):
        seen[hashlib.sha256(images[row]).digest()].add((label, train))
    several = sum(len({label for label, _ in places}) > 1 for places in seen.values())
    leaked = sum(len({train for _, train in places}) > 1 for places in seen.values())
    counts = {"pictures_in_several_classes": several, "pictures_in_train_and_test": leaked}
    return {key: count for key, count in counts.items() if count}
