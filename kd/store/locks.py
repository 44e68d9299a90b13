"""File locks, one per key, which the operating system releases when their process ends."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kd.runtime.console import print_line

NO_LOCKS = {
    errno.ENOSYS,
    errno.ENOLCK,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}  # errors of flock on file systems without locks


_warned = False  # whether the line about missing locks was printed


@contextmanager
def locked(lock: Path, what: str) -> Iterator[None]:
    """Hold ``lock``. If another process holds it, print a line, because the wait may take as long as a training.

    The operating system releases the lock of a process that dies, and a waiting process continues within a tenth of a
    second; the file itself blocks no process. On a file system without locks, a line says what that means.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = file_lock(lock)
    try:
        held.acquire(timeout=2)
    except Timeout:
        print_line(f"waiting for {what}: another process{lock_holder(lock)} is working on it")
        held.acquire()
    except (OSError, NotImplementedError) as error:
        _note_no_locks(lock, error)
    try:
        if held.is_locked:
            _write_holder(lock)
        yield
    finally:
        held.release()


@contextmanager
def locked_at_once(lock: Path) -> Iterator[bool]:
    """Hold ``lock`` if it is free; yield whether it is held. Nothing waits, so several may be held at a time."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held, free = file_lock(lock), True
    try:
        held.acquire(blocking=False)
    except Timeout:
        free = False
    except (OSError, NotImplementedError) as error:
        _note_no_locks(lock, error)
    try:
        if held.is_locked:
            _write_holder(lock)
        yield free
    finally:
        held.release()


def is_held(lock: Path) -> bool:
    """Whether a process holds ``lock`` now. Nothing is written and nothing waits; False where locks do not work."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # ends with the file
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write_holder(lock: Path) -> None:
    with suppress(OSError):  # only for the line that a waiting process prints
        lock.write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")


def _note_no_locks(lock: Path, error: OSError | NotImplementedError) -> None:
    global _warned
    if isinstance(error, OSError) and error.errno not in NO_LOCKS:
        raise error
    if not _warned:
        print_line(f"{lock.parent.parent} is on a file system without locks ({error}): run one command at a time there")
    _warned = True


def lock_holder(lock: Path) -> str:
    """Return the holder of a lock, in brackets: " (4711 on node3)"; "" if the holder is unknown."""
    try:
        holder = lock.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    return f" ({holder})" if holder else ""


def file_lock(path: Path) -> FileLock:
    """Return a lock that ends with its process; never a lock by the mere existence of a file."""
    return FileLock(path, fallback_to_soft=False)
