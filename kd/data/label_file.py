"""Read labels from a file of ``path,label`` lines: a CSV with or without a header, or text with tabs or blanks.

Paths are relative to ``data.root`` and never lead out of it. A column ``split`` holds train, val or test; without one,
or without test lines, a part of every class is set aside for the test.
"""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd.data.class_folders import Part, check_names, in_order, listed
from kd.data.files import printable, reason_of, unreadable_reason
from kd.data.layout import TEST, TRAIN, VAL
from kd.runtime.text import first_few

PATH = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img")
LABEL = ("label", "class", "category", "target", "class_name", "label_name")  # names of columns in a header, any case
SPLIT = ("split", "set", "subset", "partition")
SPLITS = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(VAL, "val"), **dict.fromkeys(TEST, "test")}
MAX_LINES = 20  # lines named in an error
MAX_BYTES = 2**28  # of the file


class Listed(NamedTuple):
    """The splits of a file of labels."""

    train: Part
    test: Part | None
    val: Part | None


class _Row(NamedTuple):
    line: int
    path: str
    label: str
    split: str | None


def read_labels(labels: Any, root: Path, may_miss: bool = False) -> Listed:
    """Return the splits of the file ``data.labels``, a path from the working directory or from ``root``.

    Args:
        may_miss: whether missing images are listed, as bad files that the caller leaves out.

    Raises:
        ValueError: for a file or lines that cannot be used, naming the lines.
    """
    path = _place(labels, root)
    where, rows = printable(path), _rows(path, root)
    outside, missing, doubled, faulty = [], [], [], []
    splits: dict[str, dict[str, dict[str, str]]] = {"train": {}, "val": {}, "test": {}}
    seen: dict[str, int] = {}
    for row in rows:
        shown, name = f"line {row.line}: {printable(row.path)}", _within(row.path, root)
        split = "train" if row.split is None else SPLITS.get(row.split.lower())
        if not row.label or not row.path or not split:
            what = "no path" if not row.path else "no label" if not row.label else f"the split {row.split!r}"
            faulty.append(f"line {row.line}: {what}")
        elif name is None:
            outside.append(shown)
        elif name in seen:
            doubled.append(f"{shown}, also on line {seen[name]}")
        else:
            if not may_miss and not os.path.exists(f"{root}/{name}"):
                missing.append(shown + _suggest_suffix(f"{root}/{name}"))
            seen[name] = row.line
            splits[split].setdefault(row.label, {})[name] = f"{root}/{name}"
    _refuse(where, faulty, "cannot be used; a split is train, val or test")
    _refuse(where, outside, f"with a path that leads out of data.root={printable(root)}")
    _refuse(where, doubled, "with an image that is listed already")
    hint = "Paths are relative to data.root; data.on_bad_file=skip leaves missing images out"
    _refuse(where, missing, f"with an image that is not in data.root={printable(root)}", f"\n{hint}")
    parts = {
        split: Part(f"{where} ({split})", {label: dict(sorted(classes[label].items())) for label in in_order(classes)})
        for split, classes in splits.items()
        if classes
    }
    if "train" not in parts:
        others = ", only validation or test images" if parts else ""
        raise ValueError(f"data.labels={where} holds no training images{others}")
    for part in parts.values():
        check_names(part.classes, "classes", part.where if len(parts) > 1 else where)
    return Listed(parts["train"], parts.get("test"), parts.get("val"))


def _place(labels: Any, root: Path) -> Path:
    try:
        given = Path(str(labels)).expanduser()
    except RuntimeError as error:  # ~unknown_user
        raise ValueError(f"data.labels={printable(labels)}: {error}") from error
    path = next((place for place in (given, root / given) if place.exists()), given)
    reason = unreadable_reason(str(path))
    if not reason and path.stat().st_size > MAX_BYTES:
        reason = f"larger than {MAX_BYTES / 2**20:.0f} MB"
    if reason:
        places = f"the working directory and data.root={printable(root)}"
        raise ValueError(f"data.labels={printable(labels)}: {reason} (looked in {places})")
    return path


def _rows(path: Path, root: Path) -> list[_Row]:
    where = f"data.labels={printable(path)}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: {error.reason} at byte {error.start:,}") from error
    except OSError as error:
        raise ValueError(f"{where}: {reason_of(error)}") from error
    found = _fields(text, where)
    if not found:
        raise ValueError(f"{where} holds no line")
    columns, start = _columns(found, root, where)
    rows, bad = [], []
    for line, fields in found[start:]:
        if len(fields) != len(found[0][1]):
            bad.append(f"line {line}: {len(fields)} fields instead of {len(found[0][1])}")
            continue
        path_, label, *split = (fields[column].strip() for column in columns)
        rows.append(_Row(line, path_, label, split[0] if split else None))
    _refuse(printable(path), bad, "cannot be used")
    return rows


def _fields(text: str, where: str) -> list[tuple[int, list[str]]]:
    """Return (number, fields) of every line that is not blank."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub('"[^"]*"', "", first)
    mark = max(",\t;", key=bare.count)
    if not bare.count(mark):  # blanks: the label is the last word
        lines = [(number, line.rsplit(None, 1)) for number, line in enumerate(text.splitlines(), 1)]
        return [(number, fields) for number, fields in lines if fields]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=mark, skipinitialspace=True, strict=True)
    try:
        return [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]
    except csv.Error as error:
        raise ValueError(f"{where}, line {reader.line_num}: {error}") from error


def _columns(found: Sequence[tuple[int, list[str]]], root: Path, where: str) -> tuple[list[int], int]:
    """Return the columns of path, label and (if any) split, and the first row after the header."""
    first = found[0][1]
    names = [field.strip().lower() for field in first]
    by_name = [next((names.index(name) for name in known if name in names), None) for known in (PATH, LABEL, SPLIT)]
    exists = [_file_exists(fields[0], root) for _, fields in found[:2]]
    if None not in by_name[:2] and not _file_exists(first[by_name[0] or 0], root):
        return [column for column in by_name if column is not None], 1
    if len(first) not in (2, 3):
        columns = "one column" if len(first) == 1 else f"{len(first)} columns: {listed(first)}"
        raise ValueError(
            f"{where}: each line must be path,label or path,label,split, or the first line must name such columns; "
            f"it has {columns}"
        )
    return list(range(len(first))), int(exists == [False, True])


def _file_exists(path: str, root: Path) -> bool:
    name = _within(path.strip(), root)
    return name is not None and os.path.isfile(f"{root}/{name}")


def _within(path: str, root: Path) -> str | None:
    """Return ``path`` relative to ``root``, without ``..``; None if it leads out of the root or is the root itself."""
    if "\0" in path:
        return None
    whole = os.path.normpath(root.absolute() / path)
    if os.sep == "/" and "\\" in path and not os.path.exists(whole):  # written on Windows
        whole = os.path.normpath(root.absolute() / path.replace("\\", "/"))
    for top in (os.path.normpath(root.absolute()), os.path.realpath(root)):
        if whole.startswith(top.rstrip(os.sep) + os.sep):
            return whole[len(top.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
    return None


def _suggest_suffix(path: str) -> str:
    """Name the file that has this path and a suffix, if there is one: many tables leave the suffix out."""
    found = sorted(glob.glob(f"{glob.escape(path)}.*"))
    return f" (there is {printable(os.path.basename(found[0]))})" if found else ""


def _refuse(where: str, lines: Iterable[str], why: str, hint: str = "") -> None:
    lines = list(lines)
    if lines:
        count = "1 line" if len(lines) == 1 else f"{len(lines):,} lines"
        named = first_few(lines, MAX_LINES, "\n  ")
        raise ValueError(f"data.labels={where}: {count} {why}:\n  {named}{hint}")
