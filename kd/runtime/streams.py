"""Standard output and error of every command: output that cannot be shown never stops a run.

Every command, and every process that a launcher starts, calls ``open_streams`` before it prints.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

CLOSED_ERRNOS = {
    errno.EPIPE,
    errno.EIO,
    *([errno.EINVAL] if os.name == "nt" else []),
}  # of a closed pipe, a closed terminal


def open_streams() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` accept any text: characters that their encoding lacks become ``?``.

    The encoding stays the same. Text to a closed stream (``>&-``) is dropped, and so is text after a reader has closed
    its end (``| head``): libraries print too, and Python itself flushes at exit.
    """
    sys.stdout, sys.stderr = _opened(sys.stdout, 1), _opened(sys.stderr, 2)


def null_stream() -> TextIO:
    """Return a stream that discards its output."""
    return open(os.devnull, "w", encoding="utf-8")


def _opened(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return null_stream()
    if isinstance(stream, io.TextIOWrapper) and _file_of(stream) == number:
        stream.flush()
        stream = _unbreakable(stream, number)
    if hasattr(stream, "reconfigure") and _is_strict(stream):  # a notebook's stream accepts everything
        stream.reconfigure(errors="replace")
    return stream


def _is_strict(stream: io.TextIOWrapper) -> bool:
    """Whether some text raises an error. An error handler that the user chose (PYTHONIOENCODING=ascii:ignore) stays.

    In the POSIX locale Python uses "surrogateescape", which handles file names but no arrow in ASCII.
    """
    whole = (stream.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    return stream.errors == "strict" or (stream.errors == "surrogateescape" and not whole)


def _file_of(stream: io.TextIOWrapper) -> int | None:
    """Return the file descriptor of a stream, if it is a plain file that ``_unbreakable`` has not wrapped yet."""
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return raw.fileno() if type(raw) is io.FileIO and not raw.closed else None


def _unbreakable(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    """Return a stream over the same file that survives a reader which closes its end."""
    raw = _Written(number, "w", closefd=False)
    raw.name = stream.name
    buffer = raw if isinstance(stream.buffer, io.FileIO) else io.BufferedWriter(raw)  # python -u has no buffer
    options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, **options)


class _Written(io.FileIO):
    """A file that discards its output once its reader is gone; other errors are raised."""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in CLOSED_ERRNOS:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)
