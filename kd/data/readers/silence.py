"""Silence Pillow and the libraries below it: what matters becomes the reason for refusing a file."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from PIL import ImageFile


@contextmanager
def silence_libraries() -> Iterator[TextIO]:
    """Suppress Pillow's warnings and log, and libtiff's direct output to the terminal; refuse truncated files.

    Half of these settings belong to the process, not to a thread: enter this once, around all decoding threads.

    Yields:
        A stream that still reaches the terminal, for a progress bar.
    """
    log = logging.getLogger("PIL")
    level, lenient = log.level, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings(), _without_standard_error() as terminal:
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL + 1)
        ImageFile.LOAD_TRUNCATED_IMAGES = False  # True, set by another library, would fill half an image with grey
        try:
            yield terminal
        finally:
            log.setLevel(level)
            ImageFile.LOAD_TRUNCATED_IMAGES = lenient


@contextmanager
def _without_standard_error() -> Iterator[TextIO]:
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed: nothing to silence
        yield sys.stderr
        return
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        with open(kept, "w", encoding="utf-8", errors="replace", closefd=False) as terminal:
            yield terminal if _is_standard_error(sys.stderr) else sys.stderr  # a notebook replaces it
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _is_standard_error(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # a stream without a file descriptor
        return False
