"""Which files may be opened, and names and errors as text that every terminal and JSON can hold."""

from __future__ import annotations

import errno
import os
import stat

JOINERS = "\u200c\u200d"  # invisible, but some scripts and emoji need them
KINDS = {
    stat.S_IFDIR: "a folder, not a file",
    stat.S_IFIFO: "a pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}
LONGEST = 200  # characters of a reason


def printable(text: str | os.PathLike) -> str:
    r"""Return ``text`` with unprintable characters escaped: a line break as ``\n``, a byte outside UTF-8 as ``\xff``.

    Characters that change the writing direction are escaped too, because they make a name look like another one.
    """
    return "".join(each if each.isprintable() or each in JOINERS else _escape(each) for each in str(text))


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def is_regular_file(path: str) -> os.stat_result | None:
    """Return ``os.stat`` of a regular file, through links; None for anything else and for a failing ``stat``."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def unreadable_reason(path: str) -> str | None:
    """Return why ``path`` must not be opened as an image, or None. It is not opened here: a pipe would block."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            return "a link to a file that is not there"
        if error.errno == errno.ELOOP:
            return "a link that leads back to itself"
        return reason_of(error)
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    return kind or (None if found.st_size else "the file is empty")


def reason_of(error: BaseException) -> str:
    """Return one short printable line about an error, without the path, which the caller prints."""
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    line = printable((text or type(error).__name__).splitlines()[0])
    if line.lstrip("-").isdigit():  # Pillow passes on the error codes of some decoders
        line = f"its data are damaged (decoder error {line})"
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
