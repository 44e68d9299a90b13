"""Which rows of an array are complete: decoding that is killed goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

BLOCK = 512  # rows; a kill loses less than one block

Result = str | tuple[int, int]  # of a row: why it could not be read, or width and height of its image


class Journal:
    """A line for each complete block of rows: its first row, the hash of its bytes, and what became of each row.

    A block whose bytes have another hash is decoded again: after a power cut, a line may be on the disk without them.

    Args:
        path: of the lines, beside the array. images: [N, H, W, C], of this process or of one that was killed.
    """

    def __init__(self, path: Path, images: np.ndarray):
        self.path, self.images = path, images
        self.done: dict[int, list[Result]] = {}  # by the first row of the block
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                block = json.loads(line)
                start, results = block["start"], [_result(each) for each in block["rows"]]
                whole = start % BLOCK == 0 and len(results) == len(images[start : start + BLOCK])
            except (ValueError, KeyError, TypeError):  # the line is cut off
                continue
            if whole and block.get("sha256") == self._hash(start):
                self.done[start] = results

    def blocks(self) -> Iterator[range]:
        """Yield the rows of every block, complete or not."""
        for start in range(0, len(self.images), BLOCK):
            yield range(start, min(start + BLOCK, len(self.images)))

    def finish(self, start: int, results: Sequence[Result]) -> None:
        """Note that a block is complete."""
        line = json.dumps({"start": start, "sha256": self._hash(start), "rows": results}, ensure_ascii=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}")  # the last line of a process that was killed may be cut off

    def _hash(self, start: int) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.images[start : start + BLOCK])).hexdigest()


def _result(value: object) -> Result:
    if isinstance(value, str):
        return value
    width, height = value
    return int(width), int(height)
