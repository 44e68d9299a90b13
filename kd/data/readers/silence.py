"""Let Pillow and the libraries below it decode in silence: what matters of a file becomes the reason it is refused."""

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
    """Hold back Pillow's warnings and log, and what libtiff writes to the terminal past Python; refuse what is cut off.

    Half of what it sets is the process's, not the thread's: enter it once, around all threads that decode.

    Yields:
        What still reaches the terminal, for a bar.
    """
    log = logging.getLogger("PIL")
    level, lenient = log.level, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings(), _without_standard_error() as terminal:
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL + 1)
        ImageFile.LOAD_TRUNCATED_IMAGES = False  # somebody else's True would fill half an image with grey
        try:
            yield terminal
        finally:
            log.setLevel(level)
            ImageFile.LOAD_TRUNCATED_IMAGES = lenient


@contextmanager
def _without_standard_error() -> Iterator[TextIO]:
    try:
        kept = os.dup(2)
    except OSError:  # closed: there is nobody to disturb
        yield sys.stderr
        return
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        with open(kept, "w", encoding="utf-8", errors="replace", closefd=False) as terminal:
            yield terminal if _is_standard_error(sys.stderr) else sys.stderr  # a notebook has another
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _is_standard_error(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # a stream of its own kind, without a file below
        return False
