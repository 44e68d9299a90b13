"""What the system says when a disk is full or may not be written, in words that say what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
KEPT = "What was finished is kept, and the same command goes on from there"


def explain_os_error(error: object, outputs: str | Path) -> str:
    """What an error says; of a disk that is full or closed, also what that means for the run.

    Args:
        outputs: where the run writes, if the error does not say where it was.
    """
    if not isinstance(error, OSError) or error.errno not in FULL | CLOSED:
        return str(error)
    place = error.filename if isinstance(error.filename, str) else str(outputs)
    if error.errno in CLOSED:
        return f"{place}: {error.strerror}.\n{KEPT} when that is mended."
    disk = Path(place).parent if error.filename else Path(outputs)
    return f"{place}: {error.strerror}{_free(disk)}.\n{KEPT} when there is room."


def is_write_error(error: BaseException | None) -> OSError | None:
    """The error in a chain that says that a file could not be written, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL | CLOSED:
            of_network = error.errno in (errno.EACCES, errno.EPERM) and not error.filename
            if not of_network:
                return error
        error = error.__cause__ or error.__context__
    return None


def _free(folder: Path) -> str:
    try:
        if hasattr(os, "statvfs") and os.statvfs(folder).f_files and not os.statvfs(folder).f_favail:
            return " (no more files fit there, however small: its inodes are used up)"
        return f" ({shutil.disk_usage(folder).free / 2**20:,.1f} MB are free there)"
    except OSError:
        return ""


def first_line(error: BaseException) -> str:
    """What an error says, or what it is where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
