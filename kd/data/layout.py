"""Where the splits of a tree of images lie: under the usual names, wrapped into a folder more, or nowhere.

What can be meant in one way only is found and said: a folder that holds nothing but one folder of folders is a wrapping
(``archive/train``, ``train/train/<class>``: Kaggle's habit), for a set of one class is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kd.data.class_folders import entries, folders_in, listed, only_folders
from kd.data.files import printable

TRAIN, TEST, VAL = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # usual names, any case
USUAL = (*TRAIN, *TEST, *VAL, "seg_train")
AUTO = "auto"  # of data.val_dir: a folder of a usual name, where there is one
DEEPEST = 3  # wrappings


class Layout(NamedTuple):
    """The folders of class folders; only ``train`` where a part of it is to be set aside for the test."""

    train: Path
    test: Path | None = None
    val: Path | None = None
    remarks: tuple[str, ...] = ()  # what there is to say of it


def find_splits(root: Path, train_dir: str, test_dir: str, val_dir: str | None = AUTO, nested: bool = False) -> Layout:
    """Return where the splits lie, with a remark where that is not where one would look.

    Raises:
        ValueError: for one without the other, one folder for both, splits that have other names, or several sets.
    """
    top = _unwrapped(root, train_dir, test_dir, nested)
    train, test = top / train_dir, top / test_dir
    if train.is_dir() != test.is_dir():
        there, missing = (train, test) if train.is_dir() else (test, train)
        setting = "test_dir" if train.is_dir() else "train_dir"
        beside = [name for name in folders_in(top) if name != there.name]
        raise ValueError(
            f"data.root={printable(top)} has {there.name}/ but no {missing.name}/. Name the other split with "
            f"data.{setting}=... (beside it: {listed(beside) or 'no folder'}), or set a part of one split aside with "
            f"data.root={printable(there)}"
        )
    if not train.is_dir():
        meant = _settings_for(top)
        if meant:
            raise ValueError(f"data.root={printable(top)} holds splits of other names: say {meant}")
        if val_dir not in (None, AUTO):
            raise ValueError(f"data.val_dir={printable(val_dir)} is read beside {train_dir}/ and {test_dir}/ only")
        return Layout(top, remarks=_read_from(root, top))
    _differ("train_dir", train_dir, train, "test_dir", test_dir, test)
    val, remarks = _validation(top, train, test, val_dir)
    folders = [folder and _inside(folder, nested) for folder in (train, test, val)]
    if folders[:2] != [root / train_dir, root / test_dir]:
        remarks = [*_read_from(root, *filter(None, folders)), *remarks]
    return Layout(*folders, tuple(remarks))


def _read_from(root: Path, *folders: Path) -> tuple[str, ...]:
    where = [f"{printable(folder.relative_to(root))}/" for folder in folders if folder != root]
    return (f"data.root={printable(root)}: read from {' and '.join(where)}",) if where else ()


def _unwrapped(top: Path, train_dir: str, test_dir: str, nested: bool) -> Path:
    """``top``, or the one folder below it that holds the set."""
    for _ in range(DEEPEST):
        if (top / train_dir).is_dir() or (top / test_dir).is_dir() or _settings_for(top):
            return top
        folders = folders_in(top)
        split = [name for name in folders if _holds_splits(top / name, train_dir, test_dir)]
        others = [name for name in folders if name not in split] if split else []
        if sum(not only_folders(top / name, entries(top / name)) for name in others) > 1:  # which may be classes
            return top
        if len(split) > 1:
            where = " or ".join(f"data.root={printable(top / name)}" for name in split)
            raise ValueError(f"{printable(top)} holds several folders with {train_dir}/ and {test_dir}/: say {where}")
        if split:
            return top / split[0]
        alone = folders[0] if len(folders) == 1 and not nested else ""
        if not alone or alone.lower() in USUAL or not only_folders(top / alone, entries(top / alone)):
            return top
        top = top / alone
    return top


def _holds_splits(folder: Path, train_dir: str, test_dir: str) -> bool:
    splits = (folder / train_dir, folder / test_dir)
    return all(split.is_dir() and only_folders(split, entries(split)) for split in splits)


def _inside(split: Path, nested: bool) -> Path:
    """``split``, or the folder of class folders that is all it holds."""
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
    """The folder that validates, and remarks."""
    if val_dir is None:
        return None, []
    if val_dir != AUTO:
        val = top / val_dir
        if not val.is_dir():
            beside = [name for name in folders_in(top) if name not in (train.name, test.name)]
            raise ValueError(
                f"data.val_dir={printable(val_dir)} is no folder of {printable(top)} (beside the two splits: "
                f"{listed(beside) or 'no folder'}); null takes data.val_fraction of the training images"
            )
        _differ("train_dir", train.name, train, "val_dir", val_dir, val)
        _differ("test_dir", test.name, test, "val_dir", val_dir, val)
        return val, []
    usual = [name for name in folders_in(top) if name.lower() in VAL]
    usual = [name for name in usual if not any((top / name).samefile(split) for split in (train, test))]
    found = [name for name in usual if only_folders(top / name, entries(top / name))]
    if len(found) > 1:
        raise ValueError(f"data.root={printable(top)} holds {listed(found)}: say which validates, data.val_dir=...")
    start = f"data.root={printable(top)}:"
    remarks = [
        f"{start} {printable(name)}/ is left out, for it does not hold class folders alone"
        for name in usual
        if name not in found
    ]
    remarks += [f"{start} {printable(name)}/ validates; data.val_dir=null leaves it out" for name in found]
    return (top / found[0] if found else None), remarks


def _differ(one: str, said: str, folder: Path, other: str, also: str, its: Path) -> None:
    if folder.samefile(its):
        what = "test would be the training set" if other == "test_dir" else "validation would be no other images"
        raise ValueError(
            f"data.{one}={printable(said)} and data.{other}={printable(also)} are the same folder, "
            f"{printable(folder.resolve())}: the {what}. Name two folders, or set a part of it aside "
            + (f"for the test with data.root={printable(folder)}" if other == "test_dir" else "with data.val_dir=null")
        )


def _settings_for(top: Path) -> str | None:
    """The settings that read ``top``, where it holds class folders in folders with the usual names of splits."""
    folders = [name for name in folders_in(top) if name.lower() in USUAL]
    found = {name.lower(): name for name in folders if only_folders(top / name, entries(top / name))}
    if "seg_train" in found:
        return f"data=intel data.root={printable(top.parent if top.name == 'seg_train' else top)}"
    train, test = ([found[name] for name in names if name in found] for names in (TRAIN, (*TEST, *VAL)))
    return f"data.train_dir={train[0]} data.test_dir={test[0]}" if train and test else None
