"""Decode image files in several threads, in order and in bounded memory, and keep the reason for each bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from kd.data.files import reason_of
from kd.data.readers.parallel import AHEAD, in_order

AHEAD_BYTES = 2**28  # of decoded images that wait for the network


class Decoded(NamedTuple):
    """A batch of images, in the order of the files."""

    rows: list[int]  # the positions of its files
    pixels: np.ndarray  # uint8 [B, S, S, C]
    tried: int  # files since the batch before, good and bad


def ahead_of(side: int) -> int:
    """Return how many images of ``side`` x ``side`` pixels may wait for the network."""
    return max(1, min(AHEAD, AHEAD_BYTES // (3 * side * side)))


def decode_batches(
    files: Sequence[str],
    read: Callable[[str], np.ndarray],
    batch: int,
    failed: dict[int, str],
    ahead: int = AHEAD,
) -> Iterator[Decoded]:
    """Yield the images of ``files`` in batches; each batch but the last is full, whatever files are bad.

    While the caller works, threads decode the next ``ahead`` images.

    Args:
        read: returns the pixels of a file, uint8 [S, S, C]; any exception makes it a bad file. Called from threads;
            enter ``kd.data.readers.silence.silence_libraries`` around all of this.
        failed: gets the reason for each bad file, by its position.
    """

    def pixels_of(row: int) -> np.ndarray | str:
        try:
            return read(files[row])
        except UnidentifiedImageError:
            return "not an image of a known format"
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
            return reason_of(error)

    pool = ThreadPoolExecutor()  # Pillow releases the GIL while it decodes and resizes
    try:
        rows, pixels, tried = [], [], 0
        for row, found in enumerate(in_order(pool, pixels_of, range(len(files)), ahead)):
            tried += 1
            if isinstance(found, str):
                failed[row] = found
                continue
            rows.append(row)
            pixels.append(found)
            if len(rows) == batch:
                yield Decoded(rows, np.stack(pixels), tried)
                rows, pixels, tried = [], [], 0
        if rows:
            yield Decoded(rows, np.stack(pixels), tried)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted command does not wait for the files that are queued
