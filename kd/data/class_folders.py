"""List the files of each class in a folder of class folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from kd.data.files import printable, reason_of, unreadable_reason

IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


class Part(NamedTuple):
    """One split: training, validation or test."""

    where: str  # its name in error messages
    classes: dict[str, dict[str, str]]  # {class: {name within the class: path}}, classes and names in order


def list_classes(folder: Path, nested: bool = False) -> Part:
    """Return the files of a folder of class folders; with ``nested``, files at any depth below each class folder.

    Raises:
        ValueError: for fewer than two class folders, a class folder that is empty or holds only folders, two names
            that look the same, or a broken link among the class folders.
    """
    tree: dict[str, dict[str, str]] = {}
    shown = printable(folder)
    for name in in_order(entries(folder)):
        path = f"{folder}/{name}"
        if not os.path.isdir(path):
            if os.path.islink(path) and not os.path.exists(path):  # ignored, it would silently drop a class
                raise ValueError(f"{shown} holds {printable(name)}, {unreadable_reason(path)}. Repair or remove it")
            continue
        inside = entries(path)
        if not nested and only_folders(path, inside):
            raise ValueError(
                f"the class folder {printable(path)} holds folders ({listed(inside[:5])}) and no file: only images "
                "are expected there. Is data.root one level too high? data.nested=true reads the folders below"
            )
        files = files_below(path) if nested else inside
        tree[name] = {file: f"{path}/{file}" for file in files}
    empty = [name for name, files in tree.items() if not files]
    check_names(tree, "class folders", shown)
    if empty:
        raise ValueError(f"class folders without any file in {shown}: {listed(empty)}")
    return Part(shown, tree)


def check_names(names: Iterable[str], what: str, where: str) -> None:
    """Raise ValueError for fewer than two classes, and for names that look the same."""
    names = list(names)
    if len(names) < 2:
        raise ValueError(f"at least 2 {what} are needed, {where} holds {listed(names) or 'none'}")
    times = Counter(map(folded, names))
    alike = [name for name in names if times[folded(name)] > 1]
    if alike:
        raise ValueError(
            f"{where} holds {what} whose names look the same but are spelled differently: "
            + ", ".join(f"{printable(name)} ({len(name)} characters)" for name in alike)
        )


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names as text, except that numbers are ordered by value among their places: 1, 2, 10."""
    text = sorted(names)
    numbers = iter(sorted(filter(NUMBER.fullmatch, text), key=lambda name: (Decimal(name), name)))
    return [next(numbers) if NUMBER.fullmatch(name) else name for name in text]


def entries(folder: str | Path) -> list[str]:
    """Return the sorted names in a folder, without hidden files and files that desktops leave."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise ValueError(f"{printable(folder)} cannot be listed: {reason_of(error)}") from error
    return sorted(name for name in names if not name.startswith(".") and name not in IGNORED)


def folders_in(folder: str | Path) -> list[str]:
    return [name for name in entries(folder) if os.path.isdir(f"{folder}/{name}")]


def only_folders(path: str | Path, inside: list[str]) -> bool:
    return bool(inside) and all(os.path.isdir(f"{path}/{name}") for name in inside)


def folded(name: str) -> str:
    """Return a name with composed accents and syllables: macOS and some archives decompose them."""
    return unicodedata.normalize("NFC", printable(name))


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(printable, names))


def files_below(folder: str | Path) -> list[str]:
    """Return the sorted paths of all files in a folder and those below, relative to it."""
    return sorted(_below(str(folder), "", ()))


def _below(path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the paths of all files below; a link to an enclosing folder counts as a file."""
    found = os.stat(path)
    here = (found.st_dev, found.st_ino)
    for name in entries(path):
        inner = f"{path}/{name}"
        if os.path.isdir(inner):
            again = os.stat(inner)
            if (again.st_dev, again.st_ino) not in (*above, here):
                yield from _below(inner, f"{prefix}{name}/", (*above, here))
                continue
        yield f"{prefix}{name}"
