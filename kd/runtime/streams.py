"""Standard output and error of every command: whatever is said arrives as far as it can, and stops nobody.

Every command, and every process that a launcher starts, calls ``open_streams`` before it says anything.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

LEFT = {errno.EPIPE, errno.EIO, *([errno.EINVAL] if os.name == "nt" else [])}  # of a closed pipe, a closed terminal


def open_streams() -> None:
    """Let ``sys.stdout`` and ``sys.stderr`` take any text: a sign that their encoding lacks is written as ``?``.

    The encoding stays as it is. Where a stream is closed (``>&-``) its text is dropped, and so it is from the moment
    that a reader goes away (``| head``): libraries print too, and Python itself flushes at the end.
    """
    sys.stdout, sys.stderr = _opened(sys.stdout, 1), _opened(sys.stderr, 2)


def null_stream() -> TextIO:
    """Where what cannot be said goes."""
    return open(os.devnull, "w", encoding="utf-8")


def _opened(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return null_stream()
    if isinstance(stream, io.TextIOWrapper) and _file_of(stream) == number:
        stream.flush()
        stream = _unbreakable(stream, number)
    if hasattr(stream, "reconfigure") and _is_strict(stream):  # a notebook's takes everything
        stream.reconfigure(errors="replace")
    return stream


def _is_strict(stream: io.TextIOWrapper) -> bool:
    """Whether there is text that raises; a handler that somebody chose (PYTHONIOENCODING=ascii:ignore) stays.

    Python says "surrogateescape" in the POSIX locale, which helps the names of files, and no arrow in ASCII.
    """
    whole = (stream.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    return stream.errors == "strict" or (stream.errors == "surrogateescape" and not whole)


def _file_of(stream: io.TextIOWrapper) -> int | None:
    """The number of the file below a stream, if it is one whose writes are not looked after yet."""
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return raw.fileno() if type(raw) is io.FileIO and not raw.closed else None


def _unbreakable(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    """The same stream over the same file, but for a reader that goes away."""
    raw = _Written(number, "w", closefd=False)
    raw.name = stream.name
    buffer = raw if isinstance(stream.buffer, io.FileIO) else io.BufferedWriter(raw)  # python -u has no buffer
    how = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, **how)


class _Written(io.FileIO):
    """A file that is led to nowhere when its reader is gone; what else may go wrong with it is raised."""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in LEFT:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)
