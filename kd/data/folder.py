"""Any data set that lies in one folder per class: ``root/train/<class>/*`` and ``root/test/<class>/*``.

Where there is neither a train nor a test folder, the class folders stand in ``root`` itself and a stratified part of
every class is set aside for the test. A folder of validation pictures beside the two is left out, and that is said:
``data.val_fraction`` of the training pictures validates. Classes are sorted by name. Every file in a class folder is
taken for an image, whatever its suffix, and is a bad file if Pillow cannot read it, as is a folder, a pipe or a link to
nowhere among them; hidden files and folders, ``__MACOSX``, ``Thumbs.db`` and ``desktop.ini`` are ignored, and so are
files beside the class folders. Links are followed. See decode.py for what happens to an image, and twins.py for
pictures that stand in both splits. Nothing is ever written beside the pictures.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd.data.augment import Augment
from kd.data.checks import SMALLEST, about, enough, folder_of, one_of, share, whole
from kd.data.content import content_key
from kd.data.decode import VERSION, decode_into
from kd.data.files import closed, printable, reason_of
from kd.data.pictures import Pictures, decode_once, open_decoded, stratified_split
from kd.data.twins import check_setting, refuse, twins, warn
from kd.interfaces import advise
from kd.store import Store

IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}
TRAIN, TEST, VAL = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # usual names, any case
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
    on_leak: str = "warn",
) -> Pictures:
    """Open the tree under ``root``; images are squashed to ``image_size`` x ``image_size`` RGB.

    Args:
        seed: of the validation split and, where a test part has to be set aside, of that too.
        test_fraction: of every class, used only where ``root`` holds neither ``train_dir`` nor ``test_dir``.
        on_bad_file: "error" names all files that cannot be read, "skip" leaves them out and says so in the notes.
        on_leak: "warn" names the pictures that stand in training and test, there and in the notes, "error" refuses.

    Raises:
        FileNotFoundError, ValueError: for a tree of another shape, naming what was found.
    """
    if root is None:
        raise ValueError("data=folder needs data.root=<folder>: it holds train/<class>/... and test/<class>/...")
    top = folder_of(root)
    if not top.is_dir():
        what = "is a file, not a folder" if top.is_file() else "is not a folder"
        raise FileNotFoundError(printable(f"data.root={root} {what} (looked for {top.absolute()})"))
    rest = (augment, seed, val_fraction, image_size, on_bad_file, on_leak, test_fraction)
    with about("root", top):
        train, test = find_splits(top, str(train_dir), str(test_dir))
        pictures = open_tree(store, "folder", train, test, *rest)
        for name in _entries(top) if test else []:
            if name.lower() in VAL and (top / name).is_dir() and name not in (train.name, test.name):
                instead = f"of {printable(train.name)}/ a part validates, data.val_fraction={val_fraction}"
                advise(f"data.root={printable(top)}: {name}/ is left out; {instead}")
    return pictures


def find_splits(top: Path, train_dir: str, test_dir: str) -> tuple[Path, Path | None]:
    """Return the folders of the two splits, or ``top`` and None where it holds neither.

    Raises:
        ValueError: for one without the other, one folder for both, or splits that have other names.
    """
    train, test = top / train_dir, top / test_dir
    if train.is_dir() != test.is_dir():
        there, missing = (train, test) if train.is_dir() else (test, train)
        setting = "test_dir" if train.is_dir() else "train_dir"
        beside = [name for name in _entries(top) if (top / name).is_dir() and name != there.name]
        raise ValueError(
            f"data.root={printable(top)} has {there.name}/ but no {missing.name}/. Name the other split with "
            f"data.{setting}=... (beside it: {_listed(beside) or 'no folder'}), or set a part of one split aside with "
            f"data.root={printable(there)}"
        )
    if not train.is_dir():
        meant = _settings_for(top)
        if meant:
            raise ValueError(f"data.root={printable(top)} holds splits of other names: say {meant}")
        return top, None
    if train.samefile(test):
        raise ValueError(
            f"data.train_dir={printable(train_dir)} and data.test_dir={printable(test_dir)} are the same folder, "
            f"{printable(train.resolve())}: the test would be the training set. Name two folders, or set a part of it "
            f"aside for the test with data.root={printable(train)}"
        )
    return train, test


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
    on_leak: str,
    test_fraction: float = 0.2,
) -> Pictures:
    """Decode two folders of class folders, or one of which ``test_fraction`` is set aside, and open the result."""
    whole("image_size", image_size, SMALLEST, unit="pixels")
    share("val_fraction", val_fraction)
    one_of("on_bad_file", on_bad_file, ("error", "skip"))
    check_setting(on_leak)
    tree, where = list_classes(train), printable(train)
    classes = [printable(name) for name in tree]
    files = {f"train/{c}/{file}": f"{train}/{c}/{file}" for c in tree for file in tree[c]}
    labels = [label for label, c in enumerate(tree) for _ in tree[c]]
    settings: dict[str, Any] = {"version": VERSION, "image_size": image_size, "on_bad_file": on_bad_file}
    if test is None:
        share("test_fraction", test_fraction)
        enough(labels, classes, 3, f"{where}, where training, validation and test take from every class")
        kept, aside = stratified_split(np.array(labels), test_fraction, seed)
        train_count, order = len(kept), np.concatenate([kept, aside])
        names = list(files)
        files, labels = {names[i]: files[names[i]] for i in order}, [labels[i] for i in order]
        settings |= {"seed": seed, "test_fraction": test_fraction}
    else:
        enough(labels, classes, 2, f"{where}, where training and validation take from every class")
        other = list_classes(test)
        same = {_folded(name): name for name in other}
        if set(same) != set(map(_folded, tree)):
            only_train = [name for name in tree if _folded(name) not in same]
            only_test = [name for name in other if _folded(name) not in set(map(_folded, tree))]
            raise ValueError(
                f"the two splits have different classes: only in {where}: {_listed(only_train) or 'none'}; "
                f"only in {printable(test)}: {_listed(only_test) or 'none'}"
            )
        train_count = len(files)
        for label, c in enumerate(tree):
            folder = same[_folded(c)]
            files |= {f"test/{c}/{file}": f"{test}/{folder}/{file}" for file in other[folder]}
            labels += [label] * len(other[folder])

    def produce(allocate: Any) -> Mapping[str, Any]:
        images = allocate(len(files), (image_size, image_size, 3))
        kept, notes = decode_into(images, files, on_bad_file)
        targets, in_train = np.array(labels)[kept], kept < train_count
        enough(targets[in_train], classes, 2, "the files that can be read")
        enough(targets[~in_train], classes, 1, "the test files that can be read")
        names = list(files)
        notes |= twins(images[: len(kept)], targets, in_train, lambda row: printable(names[kept[row]]))
        if on_leak == "warn":
            warn(name, notes)
        return {"targets": targets, "classes": classes, "train_count": in_train.sum(), "notes": notes}

    settings["content"] = content_key(store, files)
    pictures = open_decoded(decode_once(store, name, settings, produce), augment, seed, val_fraction)
    if on_leak == "error":
        refuse(name, pictures.notes)
    return pictures


def list_classes(folder: Path) -> Tree:
    """Return {class: names of what stands in it} of a folder of class folders.

    Raises:
        ValueError: for fewer than two class folders, an empty one, one that holds nothing but folders, two whose names
            look alike, or a link in place of one that leads nowhere.
    """
    tree: Tree = {}
    shown = printable(folder)
    for name in _entries(folder):
        path = f"{folder}/{name}"
        if not os.path.isdir(path):
            if os.path.islink(path) and not os.path.exists(path):  # left out, a class would be missing without a word
                raise ValueError(f"{shown} holds {printable(name)}, {closed(path)}. Mend or remove it")
            continue
        tree[name] = _entries(path)
        if _only_folders(path, tree[name]):
            raise ValueError(
                f"the class folder {printable(path)} holds folders ({_listed(tree[name][:5])}) and no file: only "
                "images are expected there. Does data.root stand one level too high?"
            )
    empty = [name for name, files in tree.items() if not files]
    if len(tree) < 2:
        raise ValueError(f"at least 2 class folders are needed, {shown} holds {_listed(tree) or 'none'}")
    if empty:
        raise ValueError(f"class folders without any file in {shown}: {_listed(empty)}")
    times = Counter(map(_folded, tree))
    alike = [name for name in tree if times[_folded(name)] > 1]
    if alike:
        raise ValueError(
            f"{shown} holds class folders whose names look the same and are written differently: "
            + ", ".join(f"{printable(name)} ({len(name)} characters)" for name in alike)
        )
    return tree


def _settings_for(top: Path) -> str | None:
    """The settings that read ``top``, where it holds class folders in folders with the usual names of splits."""
    usual = (*TRAIN, *TEST, *VAL, "seg_train")
    folders = [name for name in _entries(top) if name.lower() in usual and (top / name).is_dir()]
    found = {name.lower(): name for name in folders if _only_folders(top / name, _entries(top / name))}
    if "seg_train" in found:
        return f"data=intel data.root={printable(top.parent if top.name == 'seg_train' else top)}"
    train, test = ([found[name] for name in names if name in found] for names in (TRAIN, (*TEST, *VAL)))
    return f"data.train_dir={train[0]} data.test_dir={test[0]}" if train and test else None


def _only_folders(path: str | Path, inside: list[str]) -> bool:
    return bool(inside) and all(os.path.isdir(f"{path}/{name}") for name in inside)


def _entries(folder: str | Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise ValueError(f"{printable(folder)} cannot be listed: {reason_of(error)}") from error
    return sorted(name for name in names if not name.startswith(".") and name not in IGNORED)


def _folded(name: str) -> str:
    """Accents and syllables composed: macOS and some archives take them apart."""
    return unicodedata.normalize("NFC", printable(name))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(printable, names))
