"""Where a training stands, in files: so that the same command, run again, goes on there.

A checkpoint is written beside the others and renamed when it is whole; the last two are kept. Its name holds its place
in the training and the first digits of its own SHA-256. So one that a kill, a power cut or a full disk left half
written, or that was damaged later, is recognised and passed over, and the one before it serves. (That is also why no
write waits for the disk: what a power cut takes with it does not match its name.)

The files are plain torch files, ``torch.load(path, weights_only=True)``: nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from kd.runtime.console import print_line
from kd.runtime.errors import first_line
from kd.runtime.memory import is_out_of_memory

KEPT = 2
DIGITS = 16  # of the hash, in a name


class CheckpointFolder:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: made when it is needed. minutes: between two that are written inside of an epoch.
    """

    def __init__(self, folder: Path, minutes: float = 10.0):
        self.folder, self.minutes = folder, minutes

    def write(self, place: int, state: dict[str, Any]) -> Path:
        """Write ``state`` (tensors and plain values) as the newest.

        Args:
            place: how far the training is; later is higher.

        Raises:
            OSError: no room, or no permission. What was there before stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f".{os.getpid()}"
        try:
            with beside.open("wb") as file:
                hashed = _Hashed(file)
                try:
                    torch.save(state, hashed)
                except RuntimeError as error:  # torch's own words for a write that failed
                    raise hashed.error or error from None
            final = self.folder / f"{place:09d}-{hashed.sha256.hexdigest()[:DIGITS]}.pt"
            os.replace(beside, final)
        except BaseException as error:
            beside.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno:
                text = (
                    f"{error.strerror}: a checkpoint takes {_bytes(state) / 2**20:.1f} MB, and three lie there at times"
                )
                raise OSError(error.errno, text, str(self.folder)) from error
            raise
        for old in self._all()[KEPT:]:
            old.unlink(missing_ok=True)
        return final

    def latest(self, but: Sequence[Path] = ()) -> Path | None:
        """The latest that is whole, ``but`` those left out; those that are not are removed, with a line."""
        for left_over in self.folder.glob(".*"):  # whoever is here holds the store's lock: nobody is writing
            left_over.unlink(missing_ok=True)
        for path in (path for path in self._all() if path not in but):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS] == path.stem.rpartition("-")[2]:
                    return path
            print_line(f"{self.folder.name}: the checkpoint {path.name} is damaged and passed over")
            path.unlink()
        return None

    def read(self, path: Path) -> dict[str, Any] | None:
        """What ``write`` wrote, on the CPU; None, with a line, where this version of torch cannot read it.

        Raises:
            OSError, MemoryError, RuntimeError: the disk or memory fails, which says nothing of the checkpoint.
        """
        try:
            with path.open("rb") as file:  # by itself torch makes a RuntimeError of what the disk says
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            if isinstance(error, OSError) or is_out_of_memory(error):
                raise
            print_line(f"{self.folder.name}: the checkpoint {path.name} cannot be read here ({first_line(error)})")
            return None

    def archive(self) -> None:
        """Move all to a folder of their own, where they stay until the training is over."""
        aside = self.folder / "older"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for path in self._all():
            os.replace(path, aside / path.name)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("*-*.pt"), reverse=True)


class _Hashed:
    """A file that hashes what is written to it, and remembers why it could not be."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256, self.error = file, hashlib.sha256(), None

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self.file.write(data)
        except BaseException as error:  # torch would make words of its own of a full disk, and of Ctrl-C
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _bytes(state: Any) -> int:
    """How large a state is, but for a few kilobytes."""
    if isinstance(state, Tensor):
        return state.nbytes
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(_bytes, inner))


def changed_tensors(mine: dict[str, Tensor], hashes: dict[str, str]) -> dict[str, Tensor]:
    """The tensors that are not those of ``hashes``, on the CPU."""
    return {name: value.cpu() for name, value in mine.items() if hash_of(value) != hashes.get(name)}


def hash_of(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy()).hexdigest()
