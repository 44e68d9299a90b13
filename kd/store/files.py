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
    """Record the sizes of these files of a folder, and flush them to the disk."""
    files = [folder / name for name in sorted(names) if (folder / name).is_file()]
    write_text(folder / MANIFEST, json.dumps({path.name: path.stat().st_size for path in files}, indent=1))
    for path in [*files, folder / MANIFEST]:
        with suppress(OSError), path.open("rb") as file:  # some file systems have no fsync
            os.fsync(file.fileno())


def find_damage(folder: Path) -> str:
    """Compare the files of a published folder with its manifest; describe the damage, "" if there is none.

    A power cut, a full quota or an interrupted copy leaves files that are too short. A folder without a manifest is
    accepted unchecked.
    """
    try:
        sizes = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return "" if folder.is_dir() else "it is being replaced"
    except (ValueError, TypeError):
        return f"{MANIFEST} cannot be read"
    for name, size in sizes.items():
        try:
            actual = (folder / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if actual != size:
            return f"{name} has {actual:,} bytes instead of {size:,}"
    return ""


def make_folder(parent: Path, prefix: str) -> Path:
    """Create an empty folder with the permissions of the umask: ``tempfile`` would lock out the store's other users."""
    folder = parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    return folder


def share_folder(folder: Path) -> None:
    """Let all users read, whatever the umask; whether the group may write follows the umask."""
    folder.chmod(folder.stat().st_mode | 0o055)
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | 0o444)


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically: completely or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, as ``write_text``."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def give_name(path: Path, new: Path) -> None:
    """Give a file a second name: if the process is killed before the new one is published, the first one remains."""
    try:
        os.link(path, new)
    except OSError:  # a file system without links
        os.replace(path, new)


def preallocate_npy(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """Create an ``.npy`` file of its full size and map it for writing.

    Without preallocation the file would be sparse, and writing to it on a full disk would kill the process by a signal.

    Raises:
        OSError: there is no space for all of it; no file is left.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)  # sets the size, which a limit may forbid
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array
    except (OSError, OverflowError) as error:  # OverflowError: too large for the system call
        array = None
        path.unlink(missing_ok=True)
        wanted, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
        number = getattr(error, "errno", None) or errno.EFBIG
        text = f"{os.strerror(number)}: {wanted:,} bytes are wanted and {free:,} are free"
        raise OSError(number, text, str(path)) from error
