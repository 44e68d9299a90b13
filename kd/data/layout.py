"""Find the splits of a tree of images: under their usual names, in a wrapping folder, or none.

A layout with a single interpretation is read, with a remark. A folder that holds nothing but one folder of folders is
a wrapping (``archive/train``, ``train/train/<class>``, as Kaggle packs it), because one class makes no data set.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kd.data.class_folders import entries, folders_in, listed, only_folders
from kd.data.files import printable

TRAIN, TEST, VAL = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # usual names, any case
USUAL = (*TRAIN, *TEST, *VAL, "seg_train")
AUTO_DIR = "auto"  # value of data.val_dir: a folder with a usual name, if there is one
DEEPEST = 3  # nested wrappings


class Layout(NamedTuple):
    """The folders of class folders; without ``test``, a part of ``train`` is set aside for the test."""

    train: Path
    test: Path | None = None
    val: Path | None = None
    remarks: tuple[str, ...] = ()  # for the user


def find_splits(
    root: Path, train_dir: str, test_dir: str, val_dir: str | None = AUTO_DIR, nested: bool = False
) -> Layout:
    """Return the folders of the splits, with a remark if they are not directly in ``root``.

    Raises:
        ValueError: for one split without the other, one folder for both, splits with other names, or several data sets.
    """
    top = _unwrap_root(root, train_dir, test_dir, nested)
    train, test = top / train_dir, top / test_dir
    if train.is_dir() != test.is_dir():
        present, missing = (train, test) if train.is_dir() else (test, train)
        setting = "test_dir" if train.is_dir() else "train_dir"
        beside = [name for name in folders_in(top) if name != present.name]
        raise ValueError(
            f"data.root={printable(top)} has {present.name}/ but no {missing.name}/. Name the other split with "
            f"data.{setting}=... (other folders: {listed(beside) or 'none'}), or split one folder with "
            f"data.root={printable(present)}"
        )
    if not train.is_dir():
        settings = _settings_for(top)
        if settings:
            raise ValueError(f"data.root={printable(top)} holds splits of other names: use {settings}")
        if val_dir not in (None, AUTO_DIR):
            raise ValueError(f"data.val_dir={printable(val_dir)} needs {train_dir}/ and {test_dir}/ beside it")
        return Layout(top, remarks=_remark_on(root, top))
    _check_different("train_dir", train_dir, train, "test_dir", test_dir, test)
    val, remarks = _validation(top, train, test, val_dir)
    folders = [folder and _unwrap_split(folder, nested) for folder in (train, test, val)]
    if folders[:2] != [root / train_dir, root / test_dir]:
        remarks = [*_remark_on(root, *filter(None, folders)), *remarks]
    return Layout(*folders, tuple(remarks))


def _remark_on(root: Path, *folders: Path) -> tuple[str, ...]:
    where = [f"{printable(folder.relative_to(root))}/" for folder in folders if folder != root]
    return (f"data.root={printable(root)}: read from {' and '.join(where)}",) if where else ()


def _unwrap_root(top: Path, train_dir: str, test_dir: str, nested: bool) -> Path:
    """Return ``top``, or the one folder below it that holds the data set."""
    for _ in range(DEEPEST):
        if (top / train_dir).is_dir() or (top / test_dir).is_dir() or _settings_for(top):
            return top
        folders = folders_in(top)
        split = [name for name in folders if _holds_splits(top / name, train_dir, test_dir)]
        others = [name for name in folders if name not in split] if split else []
        if sum(not only_folders(top / name, entries(top / name)) for name in others) > 1:  # the others may be classes
            return top
        if len(split) > 1:
            where = " or ".join(f"data.root={printable(top / name)}" for name in split)
            raise ValueError(f"{printable(top)} holds several folders with {train_dir}/ and {test_dir}/: use {where}")
        if split:
            return top / split[0]
        only = folders[0] if len(folders) == 1 and not nested else ""
        if not only or only.lower() in USUAL or not only_folders(top / only, entries(top / only)):
            return top
        top = top / only
    return top


def _holds_splits(folder: Path, train_dir: str, test_dir: str) -> bool:
    splits = (folder / train_dir, folder / test_dir)
    return all(split.is_dir() and only_folders(split, entries(split)) for split in splits)


def _unwrap_split(split: Path, nested: bool) -> Path:
    """Return ``split``, or the folder of class folders if that is all it holds."""
    for _ in range(DEEPEST):
        folders = folders_in(split)
        if len(folders) != 1 or (nested and folders[0] != split.name):
            break
        below = split / folders[0]
        if not only_folders(below, entries(below)):
            break
        split = below
    return split


def _validation(top: Path, train: Path, test: Path, val_dir: str | None) -> tuple[Path | None, list[str]]:
    """Return the folder of validation images, None for none, and remarks."""
    if val_dir is None:
        return None, []
    if val_dir != AUTO_DIR:
        val = top / val_dir
        if not val.is_dir():
            beside = [name for name in folders_in(top) if name not in (train.name, test.name)]
            raise ValueError(
                f"data.val_dir={printable(val_dir)} is not a folder in {printable(top)} (beside the two splits: "
                f"{listed(beside) or 'no folder'}); null takes data.val_fraction of the training images"
            )
        _check_different("train_dir", train.name, train, "val_dir", val_dir, val)
        _check_different("test_dir", test.name, test, "val_dir", val_dir, val)
        return val, []
    usual = [name for name in folders_in(top) if name.lower() in VAL]
    usual = [name for name in usual if not any((top / name).samefile(split) for split in (train, test))]
    found = [name for name in usual if only_folders(top / name, entries(top / name))]
    if len(found) > 1:
        raise ValueError(f"data.root={printable(top)} holds {listed(found)}: choose one with data.val_dir=...")
    start = f"data.root={printable(top)}:"
    remarks = [
        f"{start} {printable(name)}/ is ignored because it does not consist of class folders"
        for name in usual
        if name not in found
    ]
    remarks += [f"{start} {printable(name)}/ is used for validation; data.val_dir=null ignores it" for name in found]
    return (top / found[0] if found else None), remarks


def _check_different(
    setting: str, value: str, folder: Path, other_setting: str, other_value: str, other_folder: Path
) -> None:
    """Raise ValueError if the two settings name the same folder."""
    if folder.samefile(other_folder):
        is_test = other_setting == "test_dir"
        remedy = f"for the test with data.root={printable(folder)}" if is_test else "with data.val_dir=null"
        raise ValueError(
            f"data.{setting}={printable(value)} and data.{other_setting}={printable(other_value)} are the same folder, "
            f"{printable(folder.resolve())}. Name two folders, or set a part of it aside {remedy}"
        )


def _settings_for(top: Path) -> str | None:
    """Return the settings that read ``top`` if it holds splits under their usual names, else None."""
    folders = [name for name in folders_in(top) if name.lower() in USUAL]
    found = {name.lower(): name for name in folders if only_folders(top / name, entries(top / name))}
    if "seg_train" in found:
        return f"data=intel data.root={printable(top.parent if top.name == 'seg_train' else top)}"
    train, test = ([found[name] for name in names if name in found] for names in (TRAIN, (*TEST, *VAL)))
    return f"data.train_dir={train[0]} data.test_dir={test[0]}" if train and test else None
