"""From the arguments of the command to a list of files: folders, globs, a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence

from kd.data.class_folders import IGNORED, files_below, in_order
from kd.data.files import printable, reason_of

LIST = "-"  # the argument for a list on standard input
ANY_DEPTH = "**"


def find_files(arguments: Sequence[str], read_stdin: Callable[[], bytes]) -> list[str]:
    """Return the files that the arguments name, in their order; a file that is named twice is there twice.

    A path of a file stays as it is, also if there is no such file: reading it gives the reason. A folder stands for all
    files in it, see ``files_in``. A pattern (``*``, ``?``, ``[...]``, ``**``) stands for what it matches, sorted; a
    file with such a name goes before. ``-`` stands for the paths of the list that ``read_stdin`` returns.

    Raises:
        ValueError: a folder without a file, a pattern without a match, an empty list, or ``-`` twice.
    """
    if list(arguments).count(LIST) > 1:
        raise ValueError(f"{LIST} stands for the list on standard input, which can be read once")
    return [file for argument in arguments for file in _expand(argument, read_stdin)]


def _expand(argument: str, read_stdin: Callable[[], bytes]) -> Iterator[str]:
    if argument == LIST:
        listed = read_list(read_stdin())
        if not listed:
            raise ValueError("standard input names no file: write one path a line")
        for path in listed:
            yield from _file_or_folder(path)
        return
    path = argument if os.path.lexists(argument) else os.path.expanduser(argument)
    if os.path.lexists(path) or not glob.has_magic(path):
        yield from _file_or_folder(path)
        return
    found = matches(path)
    if not found:
        raise ValueError(f"no file matches {printable(argument)}")
    for match in found:
        yield from _file_or_folder(match)


def _file_or_folder(path: str) -> list[str]:
    return files_in(path) if os.path.isdir(path) else [path]


def read_list(content: bytes) -> list[str]:
    """Return the paths of a list: separated by zero bytes if there are any (``find -print0``), else one a line."""
    zero = b"\0" in content
    parts = content.split(b"\0") if zero else [line.removesuffix(b"\r") for line in content.split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]


def files_in(folder: str) -> list[str]:
    """Return all files in a folder, at any depth, in the order of kd's ``data=folder``.

    In a folder of class folders the classes are sorted as text, but names that are numbers by value (1, 2, 10), and the
    files of a class as text. Hidden files, and those that desktops leave, are left out.

    Raises:
        ValueError: there is none, or a folder cannot be listed.
    """
    try:
        names = files_below(folder)
    except OSError as error:
        raise ValueError(f"{printable(folder)} cannot be listed: {reason_of(error)}") from error
    if not names:
        raise ValueError(f"there is no file in the folder {printable(folder)}")
    tops = [name.split("/", 1)[0] for name in names]
    if all("/" in name for name in names):
        rank = {top: number for number, top in enumerate(in_order(set(tops)))}
        names.sort(key=lambda name: rank[name.split("/", 1)[0]])  # stable: within a class, still as text
    return [os.path.join(folder, name) for name in names]


def matches(pattern: str) -> list[str]:
    """Return the sorted paths that a pattern matches, without what desktops leave.

    With ``**`` these are files alone: a folder that matches would name its files a second time.
    """
    wanted = set(pattern.split(os.sep))
    found = sorted(glob.glob(pattern, recursive=True))
    if ANY_DEPTH in wanted:
        found = [path for path in found if not os.path.isdir(path)]
    return [path for path in found if not (IGNORED & set(path.split(os.sep))) - wanted]
