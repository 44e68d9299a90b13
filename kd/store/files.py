"""Files of a store entry: manifest, damage, permissions, atomic writes, preallocation."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "sizes.json"  # in a published folder: {file: bytes}


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write down how large these files of a folder are, and get them to the disk."""
    files = [folder / name for name in sorted(names) if (folder / name).is_file()]
    write_text(folder / MANIFEST, json.dumps({path.name: path.stat().st_size for path in files}, indent=1))
    for path in [*files, folder / MANIFEST]:
        with suppress(OSError), path.open("rb") as file:  # some file systems know no fsync
            os.fsync(file.fileno())


def find_damage(folder: Path) -> str:
    """What is wrong with the files of a published folder, by their sizes: "" when nothing is.

    A power cut, a full quota or a copy that was broken off leaves files that are too short. Folders that were
    published before sizes were written are accepted unchecked.
    """
    try:
        sizes = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return "" if folder.is_dir() else "it is being made again"
    except (ValueError, TypeError):
        return f"{MANIFEST} cannot be read"
    for name, size in sizes.items():
        try:
            found = (folder / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
    return ""


def _new_folder(place: Path, prefix: str) -> Path:
    """An empty folder with the permissions of the umask: those of ``tempfile`` shut out who shares the store."""
    folder = place / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    return folder


def share_folder(folder: Path) -> None:
    """Let others read, whatever the umask, and the group write where the umask lets it."""
    folder.chmod(folder.stat().st_mode | 0o055)
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | 0o444)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def preallocate_npy(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """Make an ``.npy`` file of its full size and map it for writing.

    Mapped alone, the file would have holes, and a full disk would end the process by a signal when one is filled.

    Raises:
        OSError: there is no room for all of it: nothing is left behind.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)  # sets the size, which a limit may forbid
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array
    except (OSError, OverflowError) as error:  # too large for a number of the system's
        array = None
        path.unlink(missing_ok=True)
        wanted, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
        number = getattr(error, "errno", None) or errno.EFBIG
        text = f"{os.strerror(number)}: {wanted:,} bytes are wanted and {free:,} are free"
        raise OSError(number, text, str(path)) from error
