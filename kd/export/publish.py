"""A folder that is written beside its place and takes it when it is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd.data.files import printable
from kd.runtime.text import first_few
from kd.store.files import make_folder, share_folder

REPORT = "report.json"  # written last: a folder with it is complete
OURS = {"files", "torch", "folded", "key"}  # entries of every report
MOST_NAMED = 3  # in a message
WRITTEN = {
    REPORT,
    "report.md",
    "README.md",
    "config.json",
    "model.safetensors",
    "confusion.png",
    "page",
}  # or student.*


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` after the block; after an error, nothing has changed.

    Raises:
        ValueError: ``folder`` is a file, or holds anything but an earlier export.
    """
    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(folder)
    partial = make_folder(folder.parent, f".{folder.name}.")
    try:
        yield partial
        _share(partial)
        _take_place(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_place(folder: Path) -> None:
    """Raise ValueError for a folder that an export must not replace."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: --out must name a folder")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if name not in WRITTEN and not name.startswith("student.")]
    if others or (names and not _is_report(folder / REPORT)):
        found = first_few(map(printable, others or names), MOST_NAMED)
        raise ValueError(
            f"{folder} holds {found}, which no export wrote: name another folder with --out, or move that away"
        )


def _is_report(path: Path) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8")).keys() >= OURS
    except (OSError, ValueError, AttributeError):
        return False


def _take_place(partial: Path, folder: Path) -> None:
    old = make_folder(folder.parent, f".{folder.name}.") if folder.exists() else None
    if old:
        os.replace(folder, old / folder.name)
    os.replace(partial, folder)
    if old:
        shutil.rmtree(old, ignore_errors=True)


def _share(folder: Path) -> None:
    share_folder(folder)
    for inner in folder.rglob("*"):
        if inner.is_dir():
            share_folder(inner)


def _remove_left_over(folder: Path) -> None:
    """Remove what killed exports left behind; other exports may be at work beside this one."""
    for path in folder.parent.glob(f".{folder.name}.*-*"):
        number = path.name.rpartition(".")[2].partition("-")[0]
        if path.is_dir() and number.isdigit() and not _is_alive(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
