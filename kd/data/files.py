"""Which files may be opened at all, and how a name or an error is said so that every terminal and JSON takes it."""

from __future__ import annotations

import errno
import os
import stat

JOINERS = "\u200c\u200d"  # invisible, but scripts and emoji are written with them
KINDS = {
    stat.S_IFDIR: "a folder, not a file",
    stat.S_IFIFO: "a pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}
LONGEST = 200  # characters of a reason


def printable(text: str | os.PathLike) -> str:
    r"""Return ``text`` with what cannot be shown written out: a line break as ``\n``, a byte of no UTF-8 as ``\xff``.

    What turns the writing direction is written out too, for such a name reads as another one.
    """
    return "".join(each if each.isprintable() or each in JOINERS else _written_out(each) for each in str(text))


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def is_regular_file(path: str) -> os.stat_result | None:
    """What the system says of a regular file, through links; None for anything else, and where nothing can be said."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def unreadable_reason(path: str) -> str | None:
    """Why ``path`` must not be opened as an image, or None. Nothing is opened to find out: a pipe would wait."""
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
    """One short printable line about an error, without the path, which is said beside it."""
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    line = printable((text or type(error).__name__).splitlines()[0])
    if line.lstrip("-").isdigit():  # Pillow hands on the numbers of some decoders
        line = f"its data are damaged (the decoder's code is {line})"
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
