"""Explain full-disk and permission errors, and what to do about them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE_ERRNOS = {errno.EROFS, errno.EACCES, errno.EPERM}
RESUME_HINT = "Finished work is kept; the same command resumes from there"


def explain_os_error(error: object, outputs: str | Path) -> str:
    """Return the message of an error; for a full or read-only disk, also what that means for the run.

    Args:
        outputs: where the run writes; used if the error names no file.
    """
    if not isinstance(error, OSError) or error.errno not in DISK_FULL_ERRNOS | NOT_WRITABLE_ERRNOS:
        return str(error)
    place = error.filename if isinstance(error.filename, str) else str(outputs)
    if error.errno in NOT_WRITABLE_ERRNOS:
        return f"{place}: {error.strerror}.\n{RESUME_HINT} when it can write again."
    disk = Path(place).parent if error.filename else Path(outputs)
    return f"{place}: {error.strerror}{_free(disk)}.\n{RESUME_HINT} when there is space."


def is_write_error(error: BaseException | None) -> OSError | None:
    """Return the error in a chain that reports a failed write, if any."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS | NOT_WRITABLE_ERRNOS:
            of_network = error.errno in (errno.EACCES, errno.EPERM) and not error.filename
            if not of_network:
                return error
        error = error.__cause__ or error.__context__
    return None


def _free(folder: Path) -> str:
    try:
        if hasattr(os, "statvfs") and os.statvfs(folder).f_files and not os.statvfs(folder).f_favail:
            return " (the file system has no free inodes: no file fits, however small)"
        return f" ({shutil.disk_usage(folder).free / 2**20:,.1f} MB are free there)"
    except OSError:
        return ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
