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
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kd.interfaces import first_line
from kd.memory import is_memory
from kd.progress import say

KEPT = 2
DIGITS = 16  # of the hash, in a name


class Checkpoints:
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

    def newest(self, but: Sequence[Path] = ()) -> Path | None:
        """The latest that is whole, ``but`` those left out; those that are not are removed, with a line."""
        for left_over in self.folder.glob(".*"):  # whoever is here holds the store's lock: nobody is writing
            left_over.unlink(missing_ok=True)
        for path in (path for path in self._all() if path not in but):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS] == path.stem.rpartition("-")[2]:
                    return path
            say(f"{self.folder.name}: the checkpoint {path.name} is damaged and passed over")
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
            if isinstance(error, OSError) or is_memory(error):
                raise
            say(f"{self.folder.name}: the checkpoint {path.name} cannot be read here ({first_line(error)})")
            return None

    def set_aside(self) -> None:
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


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of every generator: torch's on the CPU and on ``device``, NumPy's and Python's."""
    numpy = np.random.get_state(legacy=False)
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(numpy["state"]["key"].astype(np.int64)), int(numpy["state"]["pos"])],
        "numpy_gauss": [int(numpy["has_gauss"]), float(numpy["gauss"])],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Undo what was drawn since ``random_states``."""
    torch.set_rng_state(states["torch"])
    key, position = states["numpy"]
    np.random.set_state(("MT19937", key.numpy().astype(np.uint32), position, *states["numpy_gauss"]))
    random.setstate(states["python"])
    if device.type == "cuda" and "cuda" in states:  # without: it was taken on a device of another kind
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def differing(mine: dict[str, Tensor], hashes: dict[str, str]) -> dict[str, Tensor]:
    """The tensors that are not those of ``hashes``, on the CPU."""
    return {name: value.cpu() for name, value in mine.items() if hash_of(value) != hashes.get(name)}


def hash_of(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy()).hexdigest()
