"""Run a converter without its progress bars, banners and logs: libraries in C++ write past Python's streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

STREAMS = (1, 2)  # standard output and standard error, as file descriptors


@contextmanager
def silent() -> Iterator[None]:
    """Send what the process prints to nowhere inside the block; what is raised is not changed."""
    _flush()
    kept = {}
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in STREAMS:
            with suppress(OSError):  # a stream that is closed prints nothing
                kept[stream] = os.dup(stream)
                os.dup2(null, stream)
        with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            yield  # Python's own streams may be others, in a notebook
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
