"""W&B's local folders of one run: remove what a restart repeats, and read what a folder holds.

A segment is what one process wrote: a folder ``[offline-]run-<time>-<id>``. ``wandb sync`` joins the segments of one id
and numbers a row twice if two segments hold it.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from kd.store.files import write_text

HEADER = 7  # bytes before the first block of a .wandb file, which is a log in LevelDB's format
BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")  # checksum, bytes of data, kind of chunk
WHOLE, FIRST, LAST = 1, 2, 4  # kinds: a record in one chunk, the first of several, the last


class RunSegments:
    """The segments of one run, by name in a list on disk.

    Args:
        listing: the file that lists them. folder: where they are. run_id: of the run.
    """

    def __init__(self, listing: Path, folder: Path, run_id: str):
        self.listing, self.folder = listing, folder
        self._own = re.compile(rf"(?:offline-)?run-\d+_\d+-{re.escape(run_id)}(?:-\d+)?")

    def add(self, segment: Path) -> None:
        with self.listing.open("a", encoding="utf-8") as listing:
            listing.write(f"{segment.name}\n")

    def remove_repeated(self, online: bool) -> list[Path]:
        """Remove the segments that the run, which restarts and logs all rows again, makes redundant.

        No process may be writing to them. Kept and returned are those that a server has or may have in part: an offline
        segment that ``wandb sync`` has touched, and an online one, unless the server is reachable now (``online``).
        """
        return self._remove(lambda segment: online if _is_online(segment) else not _is_touched(segment))

    def remove_superseded(self, folder: str) -> None:
        """Remove the offline segments that were never synced and hold this folder: another segment replaces it."""
        self._remove(lambda each: not _is_online(each) and not _is_touched(each) and (each / folder).is_dir())

    def present(self) -> list[Path]:
        """Return the segments that are on disk, oldest first."""
        try:
            names = self.listing.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        # a list may be torn, or planted
        own = [self.folder / name for name in dict.fromkeys(names) if self._own.fullmatch(name)]
        return [segment for segment in own if segment.is_dir()]

    def _remove(self, is_redundant: Callable[[Path], bool]) -> list[Path]:
        """Remove segments and return the rest."""
        kept = []
        for segment in self.present():
            if is_redundant(segment):
                shutil.rmtree(segment, ignore_errors=True)
            if segment.exists():
                kept.append(segment)
        if self.listing.exists():
            write_text(self.listing, "".join(f"{segment.name}\n" for segment in kept))
        return kept


def _is_online(segment: Path) -> bool:
    return not segment.name.startswith("offline-")


def _is_touched(segment: Path) -> bool:
    """Whether ``wandb sync`` has sent something of a segment."""
    return any(segment.glob("*.wandb.sync*"))


def has_unsynced(segment: Path) -> bool:
    """Whether ``wandb sync`` has anything to send. If the segment grew after a sync, its marker is removed."""
    (log,) = segment.glob("run-*.wandb")
    marker = log.with_name(f"{log.name}.synced")
    if marker.exists() and marker.stat().st_mtime < log.stat().st_mtime:
        marker.unlink()
    return not marker.exists()


def read_progress(segment: Path) -> tuple[int, bool]:
    """Return the step after the last one in a segment, and whether the segment holds the end of its run."""
    from wandb.proto.wandb_internal_pb2 import Record

    next_step, ended = 0, False
    for data in read_records(segment):
        record = Record.FromString(data)
        ended |= record.WhichOneof("record_type") == "exit"
        for item in record.history.item:
            if "_step" in (item.key, *item.nested_key):
                next_step = int(item.value_json) + 1
    return next_step, ended


def read_records(segment: Path) -> Iterator[bytes]:
    """Yield the records of a segment, up to a torn end."""
    (log,) = segment.glob("run-*.wandb")
    data, at, parts = log.read_bytes(), HEADER, []
    while at + CHUNK.size <= len(data):
        room = BLOCK - at % BLOCK
        if room < CHUNK.size:  # the rest of the block is padding
            at += room
            continue
        _, size, kind = CHUNK.unpack_from(data, at)
        at += CHUNK.size + size
        if kind == 0 or at > len(data):
            return
        if kind in (WHOLE, FIRST):
            parts.clear()
        parts.append(data[at - size : at])
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
