"""File locks, one per key: they die with their process."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kd.runtime.console import print_line

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # what flock says there


_warned = False  # that there are no locks


@contextmanager
def locked(lock: Path, what: str) -> Iterator[None]:
    """Hold ``lock``; say so when somebody else does, for that may take as long as a training.

    The operating system drops the lock of a process that dies, and whoever waits goes on within a tenth of a second;
    the file itself blocks nobody. On a file system without locks there is none, and a line says what that means.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = file_lock(lock)
    try:
        held.acquire(timeout=2)
    except Timeout:
        print_line(f"waiting for {what}: another process{lock_holder(lock)} is making it")
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
        print_line(
            f"{lock.parent.parent} lies on a file system without locks ({error}): start one command at a time there"
        )
    _warned = True


def lock_holder(lock: Path) -> str:
    """Who holds a lock that is held, in brackets: " (4711 on node3)"; "" where that was not written."""
    try:
        told = lock.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    return f" ({told})" if told else ""


def file_lock(path: Path) -> FileLock:
    """A lock that dies with its process, and never a file whose mere existence locks."""
    return FileLock(path, fallback_to_soft=False)
