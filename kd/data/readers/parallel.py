"""Fill the rows of an array in several threads, in bounded memory, and go on after a kill."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError
from tqdm import tqdm

from kd.data.files import printable, reason_of
from kd.data.journal import Journal, Result
from kd.data.readers.silence import silence_libraries

AHEAD = 256  # calls that are queued: those of a million images would take gigabytes
MAX_LISTED = 20  # bad files in the notes; the error names all of them


def fill_rows(
    images: np.ndarray,
    names: Sequence[str],
    fill: Callable[[int], tuple[int, int]],
    on_bad_file: str,
    journal: Journal | None = None,
) -> tuple[np.ndarray, dict[str, Any], list[tuple[int, int]]]:
    """Call ``fill(row)`` for each row of ``images`` and return (rows kept [M], notes, their images' width and height).

    Every row is tried before an error is raised. If bad files are left out, the first M rows hold the others in order.

    Args:
        names: of the rows, for messages.
        fill: writes ``images[row]``, in one of several threads, and returns width and height of the original. Any
            exception makes its row a bad file.
        journal: of ``images``, if they lie in a place that outlives a kill: its rows are not filled again.

    Raises:
        ValueError: with ``on_bad_file="error"``, naming every unreadable file and the reason.
    """
    results = _fill(len(names), fill, journal)
    bad = [f"{printable(names[row])}: {found}" for row, found in enumerate(results) if isinstance(found, str)]
    if bad and on_bad_file == "error":
        raise ValueError(
            f"{len(bad)} of {len(names)} files cannot be read as images. "
            "Repair or remove them, or leave them out with data.on_bad_file=skip:\n  " + "\n  ".join(bad)
        )
    kept = np.array([row for row, found in enumerate(results) if not isinstance(found, str)], dtype=np.int64)
    if bad:
        for target, row in enumerate(kept):  # row >= target: nothing is overwritten before it has moved
            images[target] = images[row]
    notes = {"bad_files": len(bad), "bad_file_names": bad[:MAX_LISTED]} if bad else {}
    return kept, notes, [results[row] for row in kept.tolist()]


def _fill(count: int, fill: Callable[[int], tuple[int, int]], journal: Journal | None) -> list[Result]:
    """Return what became of each row."""

    def result_of(row: int) -> Result:
        try:
            return fill(row)
        except UnidentifiedImageError:
            return "not an image of a known format"
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
            return reason_of(error)

    blocks = list(journal.blocks()) if journal else [range(count)]
    done = journal.done if journal else {}
    missing = [rows for rows in blocks if rows.start not in done]
    first, results = count - sum(map(len, missing)), []
    with silence_libraries() as terminal:
        pool = ThreadPoolExecutor()  # Pillow releases the GIL while it decodes and resizes
        bar = tqdm(None, "decode", count, unit=" images", disable=None, file=terminal, initial=first)
        try:
            filled = in_order(pool, result_of, (row for rows in missing for row in rows))
            for rows in blocks:
                found = done.get(rows.start)
                if found is None:
                    found = []
                    for _ in rows:
                        found.append(next(filled))
                        bar.update()
                    if journal:
                        journal.finish(rows.start, found)
                results += found
        finally:
            bar.close()
            pool.shutdown(cancel_futures=True)  # an interrupted run does not wait for the files that are queued
    return results


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any], ahead: int = AHEAD
) -> Iterator[Any]:
    """Yield ``function(item)`` in order, with ``ahead`` calls queued at most; ``pool.map`` queues all of them."""
    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
