"""The folders in which W&B keeps one run: a run that is begun again must not stand there twice.

A piece is what one process wrote: ``[offline-]run-<time>-<id>``. ``wandb sync`` joins the pieces of an id and numbers
rows that stand in two of them twice.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from kd.store import write_text

HEADER = 7  # bytes of a .wandb file, which is a log in LevelDB's format
BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")  # checksum, bytes of data, which part of a record
WHOLE, FIRST, LAST = 1, 2, 4


class Pieces:
    """Which folders hold one run.

    Args:
        page: keeps their names. house: where they lie. run_id: of the run.
    """

    def __init__(self, page: Path, house: Path, run_id: str):
        self.page, self.house = page, house
        self._own = re.compile(rf"(?:offline-)?run-\d+_\d+-{re.escape(run_id)}(?:-\d+)?")

    def note(self, piece: Path) -> None:
        with self.page.open("a", encoding="utf-8") as page:
            page.write(f"{piece.name}\n")

    def clear(self, online: bool) -> list[Path]:
        """Remove the pieces that the run, which is begun anew and will be told completely, makes superfluous.

        Nobody may be at them. Kept and returned is what a server has, or may have in part: an offline piece that
        ``wandb sync`` has touched, and one that was begun online unless this time the server can be asked (``online``).
        """
        try:
            names = self.page.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        kept = []
        for name in dict.fromkeys(names):
            piece = self.house / name
            if not self._own.fullmatch(name) or not piece.is_dir():  # a page may be torn, or planted
                continue
            touched = any(piece.glob("*.wandb.sync*"))
            if not (touched if name.startswith("offline-") else not online):
                shutil.rmtree(piece, ignore_errors=True)
            if piece.exists():
                kept.append(piece)
        write_text(self.page, "".join(f"{piece.name}\n" for piece in kept))
        return kept


def unsent(piece: Path) -> bool:
    """Whether ``wandb sync`` has something to send; where a piece grew behind its back it will look again."""
    (log,) = piece.glob("run-*.wandb")
    marker = log.with_name(f"{log.name}.synced")
    if marker.exists() and marker.stat().st_mtime < log.stat().st_mtime:
        marker.unlink()
    return not marker.exists()


def records(piece: Path) -> Iterator[bytes]:
    """Yield what stands in a piece, up to a torn end."""
    (log,) = piece.glob("run-*.wandb")
    data, at, parts = log.read_bytes(), HEADER, []
    while at + CHUNK.size <= len(data):
        room = BLOCK - at % BLOCK
        if room < CHUNK.size:  # filled up with zeros
            at += room
            continue
        _, size, part = CHUNK.unpack_from(data, at)
        at += CHUNK.size + size
        if part == 0 or at > len(data):
            return
        if part in (WHOLE, FIRST):
            parts.clear()
        parts.append(data[at - size : at])
        if part in (WHOLE, LAST):
            yield b"".join(parts)
