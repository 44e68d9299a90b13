"""What was made once is found again: content keys, one lock a key, atomic publication.

A key is made of the resolved settings that determine a thing and of nothing else: not of a path, a device, the time
or of what ran beside it. So two jobs that want one teacher train it once, and a command that was killed goes on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from kd.progress import say

SHORT = 10  # hex digits of a key that stand in folder names: 40 bits
LONGEST = 180  # bytes of a name before its key: file systems take 255, and files beside a folder add theirs
SIZES = "sizes.json"  # in a published folder: {file: bytes}
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # what flock says there


def digest(settings: Mapping[str, Any]) -> str:
    """Return the key of ``settings``: the same for equal values (4 and 4.0 are), whatever the order of their names.

    Raises:
        TypeError: when a value is not plain (str, number, bool, None, list, mapping).
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def shortened(name: str) -> str:
    """What of a name of our own making can stand before a key in a folder's: ``LONGEST`` bytes, "図" has three."""
    return name.replace("/", "_").encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Store:
    """Folders under ``root``, each made once: ``root/<kind>/<name>``."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()

    def path(self, kind: str, name: str) -> Path:
        return self.root / kind / name

    def run(self, name: str, key: str) -> Path:
        """Return the folder of the run with this key: where it lies, under whatever name, else where it will."""
        for folder in sorted((self.root / "runs").glob(f"*-{key[:SHORT]}")):
            if (folder / "result.json").is_file():
                return folder
        return self.path("runs", name)

    def obtain(self, kind: str, name: str, make: Callable[[Path], None]) -> Path:
        """Return the published folder; where there is none, call ``make(empty_folder)`` and publish what it wrote.

        Whoever comes second, in this process or another, waits and finds. The operating system drops the lock of a
        process that dies, and what it had half written is never seen under the published name.
        """
        final, unfinished = self.path(kind, name), self.unfinished(kind, name)
        if final.is_dir() and not damage(final):
            shutil.rmtree(unfinished, ignore_errors=True)  # of a maker that was killed at its very end
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with waiting(self.root / ".locks" / f"{kind}-{name}.lock", f"{kind}/{name}"):
            if final.is_dir():
                wrong = damage(final)
                if not wrong:
                    return final
                aside = _new_folder(final.parent, f"{name}.damaged-")
                os.replace(final, aside / name)
                say(f"{kind}/{name} is damaged ({wrong}): it is set aside as {aside.name} and made again")
            self.tidy(kind, name)
            beside = _new_folder(final.parent, f".{name}.")
            try:
                make(beside)
                seal(beside, os.listdir(beside))
                share(beside)
                os.replace(beside, final)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            shutil.rmtree(unfinished, ignore_errors=True)
        return final

    def tidy(self, kind: str, name: str) -> None:
        """Remove what a maker that was killed left half made; for who keeps others from making it."""
        for left_over in self.path(kind, name).parent.glob(f".{name}.*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def unfinished(self, kind: str, name: str) -> Path:
        """Where ``make`` keeps what shall outlive it if it is killed; gone when the folder is published."""
        return self.root / "unfinished" / f"{kind}-{name}"


def seal(folder: Path, names: Iterable[str]) -> None:
    """Write down how large these files of a folder are, and get them to the disk."""
    files = [folder / name for name in sorted(names) if (folder / name).is_file()]
    write_text(folder / SIZES, json.dumps({path.name: path.stat().st_size for path in files}, indent=1))
    for path in [*files, folder / SIZES]:
        with suppress(OSError), path.open("rb") as file:  # some file systems know no fsync
            os.fsync(file.fileno())


def damage(folder: Path) -> str:
    """What is wrong with the files of a published folder, by their sizes: "" when nothing is.

    A power cut, a full quota or a copy that was broken off leaves files that are too short. Folders that were
    published before sizes were written are accepted unchecked.
    """
    try:
        sizes = dict(json.loads((folder / SIZES).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return "" if folder.is_dir() else "it is being made again"
    except (ValueError, TypeError):
        return f"{SIZES} cannot be read"
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


def share(folder: Path) -> None:
    """Let others read, whatever the umask, and the group write where the umask lets it."""
    folder.chmod(folder.stat().st_mode | 0o055)
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | 0o444)


_warned = False  # that there are no locks


@contextmanager
def waiting(lock: Path, what: str) -> Iterator[None]:
    """Hold ``lock``; say so when somebody else does, for that may take as long as a training.

    The operating system drops the lock of a process that dies, and whoever waits goes on within a tenth of a second;
    the file itself blocks nobody. On a file system without locks there is none, and a line says what that means.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = lock_of(lock)
    try:
        held.acquire(timeout=2)
    except Timeout:
        say(f"waiting for {what}: another process{holder(lock)} is making it")
        held.acquire()
    except (OSError, NotImplementedError) as error:
        _note_no_locks(lock, error)
    try:
        if held.is_locked:
            with suppress(OSError):  # of use to who waits, and to nobody else
                lock.write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        held.release()


def _note_no_locks(lock: Path, error: OSError | NotImplementedError) -> None:
    global _warned
    if isinstance(error, OSError) and error.errno not in NO_LOCKS:
        raise error
    if not _warned:
        say(f"{lock.parent.parent} lies on a file system without locks ({error}): start one command at a time there")
    _warned = True


def holder(lock: Path) -> str:
    """Who holds a lock that is held, in brackets: " (4711 on node3)"; "" where that was not written."""
    try:
        told = lock.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    return f" ({told})" if told else ""


def lock_of(path: Path) -> FileLock:
    """A lock that dies with its process, and never a file whose mere existence locks."""
    return FileLock(path, fallback_to_soft=False)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def allocated(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
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
