"""Checkpoints of a training on disk: the same command, run again, resumes from them.

A checkpoint is written under another name and renamed when it is complete; the last two are kept. Its name holds its
position in the training and the first digits of its own SHA-256. So a checkpoint that a kill, a power cut or a full
disk left incomplete, or that was damaged later, is recognised and skipped, and the one before it is used. (For the same
reason no write waits for the disk: what a power cut destroys does not match its name.)

The files are plain torch files, read with ``torch.load(path, weights_only=True)``: nothing in them is executed.
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

KEPT_CHECKPOINTS = 2  # checkpoints
DIGITS = 16  # of the hash, in a file name


class CheckpointFolder:
    """The checkpoints of one training, in their own folder.

    Args:
        folder: created by the first write. minutes: between two checkpoints within an epoch.
    """

    def __init__(self, folder: Path, minutes: float = 10.0):
        self.folder, self.minutes = folder, minutes

    def write(self, position: int, state: dict[str, Any]) -> Path:
        """Write ``state`` (tensors and plain values) as the latest checkpoint.

        Args:
            position: of the training; later is higher.

        Raises:
            OSError: no space, or no permission. Earlier checkpoints stay.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{os.getpid()}"
        try:
            with partial.open("wb") as file:
                hashed = _Hashed(file)
                try:
                    torch.save(state, hashed)
                except RuntimeError as error:  # torch hides the error of the write
                    raise hashed.error or error from None
            final = self.folder / f"{position:09d}-{hashed.sha256.hexdigest()[:DIGITS]}.pt"
            os.replace(partial, final)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno:
                megabytes = _bytes(state) / 2**20
                text = f"{error.strerror}: a checkpoint takes {megabytes:.1f} MB, and up to three exist at a time"
                raise OSError(error.errno, text, str(self.folder)) from error
            raise
        for old in self._all()[KEPT_CHECKPOINTS:]:
            old.unlink(missing_ok=True)
        return final

    def latest(self, skip: Sequence[Path] = ()) -> Path | None:
        """Return the latest valid checkpoint that is not in ``skip``; remove damaged ones, with a line each."""
        for left_over in self.folder.glob(".*"):  # the caller holds the store's lock: no process is writing
            left_over.unlink(missing_ok=True)
        for path in (path for path in self._all() if path not in skip):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS] == path.stem.rpartition("-")[2]:
                    return path
            print_line(f"{self.folder.name}: checkpoint {path.name} is damaged and was skipped")
            path.unlink()
        return None

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return what ``write`` wrote, on the CPU; None, with a line, if this version of torch cannot read it.

        Raises:
            OSError, MemoryError, RuntimeError: the disk or memory fails, which is not the checkpoint's fault.
        """
        try:
            with path.open("rb") as file:  # given a path, torch turns errors of the disk into a RuntimeError
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            if isinstance(error, OSError) or is_out_of_memory(error):
                raise
            print_line(f"{self.folder.name}: checkpoint {path.name} cannot be read here ({first_line(error)})")
            return None

    def archive(self) -> None:
        """Move all checkpoints to the subfolder "older", where they stay until the training ends."""
        older = self.folder / "older"
        shutil.rmtree(older, ignore_errors=True)
        older.mkdir()
        for path in self._all():
            os.replace(path, older / path.name)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("*-*.pt"), reverse=True)


class _Hashed:
    """A file that hashes what is written to it, and keeps the error of a write that failed."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256, self.error = file, hashlib.sha256(), None

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self.file.write(data)
        except BaseException as error:  # torch replaces the error of a full disk, and Ctrl-C
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _bytes(state: Any) -> int:
    """Return the size of a state, to within a few kilobytes."""
    if isinstance(state, Tensor):
        return state.nbytes
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(_bytes, inner))


def changed_tensors(mine: dict[str, Tensor], hashes: dict[str, str]) -> dict[str, Tensor]:
    """Return the tensors whose hash differs from that in ``hashes``, on the CPU."""
    return {name: value.cpu() for name, value in mine.items() if hash_of(value) != hashes.get(name)}


def hash_of(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's bytes."""
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy()).hexdigest()
