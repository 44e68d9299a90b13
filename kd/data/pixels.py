"""The pixels of a data set on the device of the training: resident there, or streamed from the memory map."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kd.data.prefetch import prefetch
from kd.runtime.memory import is_out_of_memory

RESIDENT_BYTES = 8 * 2**30  # a data set up to this size stays on an accelerator that has room for it
SHARE = 4  # images take at most a quarter of the free memory: networks, activations and other processes need the rest
COPIED_BYTES = 2**28  # on their way to the device at a time


class Wanted(NamedTuple):
    """Images of one batch."""

    positions: np.ndarray  # [B], int64, in the data set
    index: Tensor  # [B], the same, on the device


class Pixels:
    """Hands out images of a data set as uint8 tensors on one device.

    On the CPU they are read from the memory map. On an accelerator all images are resident if there is room; else each
    batch is copied there, from pinned memory where the device is CUDA, so that the copy does not wait.

    Where reading may wait, for the disk or for the device, a thread reads the next batch while the caller works. (For a
    map that is in memory, on two cores, this would cost more than it saves: see ``experiments/speed.md``.)

    Args:
        images: uint8 [N, H, W, C], memory-mapped or not; or several such arrays, whose positions go on.
    """

    def __init__(self, images: np.ndarray | Sequence[np.ndarray], device: torch.device):
        arrays = [images] if isinstance(images, np.ndarray) else images
        self.arrays, self.device = [np.asarray(each) for each in arrays], device  # plain views, quicker to index
        self.starts = np.cumsum([0, *map(len, self.arrays)])
        self.resident = copy_to_device(self.arrays, device)
        self.pinned = device.type == "cuda" and torch.cuda.is_available()
        self.ahead = device.type != "cpu" or sum(each.nbytes for each in self.arrays) > memory_of_machine()

    def stream(self, batches: Iterable[Sequence[Wanted]]) -> Iterator[list[Tensor]]:
        """Yield the images of each batch, uint8 [B, H, W, C] on the device, a tensor for each ``Wanted``."""
        if self.resident is not None:
            for batch in batches:
                yield [self.resident[wanted.index] for wanted in batch]
        elif self.ahead:
            for read in prefetch(self._reading(batch) for batch in batches):
                yield [part.to(self.device, non_blocking=self.pinned) for part in read]
        else:
            for batch in batches:
                yield self._reading(batch)()

    def _reading(self, batch: Sequence[Wanted]):
        """Return a call that reads a batch from the map. Its memory is taken here: a thread has no CUDA device set."""
        shape = self.arrays[0].shape[1:]
        parts = [torch.empty(len(one.positions), *shape, dtype=torch.uint8, pin_memory=self.pinned) for one in batch]

        def read() -> list[Tensor]:
            for part, wanted in zip(parts, batch, strict=True):
                self._take(wanted.positions, part.numpy())
            return parts

        return read

    def _take(self, positions: np.ndarray, out: np.ndarray) -> None:
        if len(self.arrays) == 1:  # clip: with the default, NumPy would read into a copy first
            np.take(self.arrays[0], positions, 0, out=out, mode="clip")
            return
        owner = np.searchsorted(self.starts, positions, side="right") - 1
        for number, array in enumerate(self.arrays):
            rows = np.flatnonzero(owner == number)
            out[rows] = array[positions[rows] - self.starts[number]]


def copy_to_device(arrays: np.ndarray | Sequence[np.ndarray], device: torch.device) -> Tensor | None:
    """Return a whole memory map, or several after one another, on the device; None on the CPU, and without room."""
    arrays = [arrays] if isinstance(arrays, np.ndarray) else arrays
    if device.type == "cpu" or sum(array.nbytes for array in arrays) > room_on(device):
        return None
    try:
        return copy_in_parts(arrays, device)
    except (RuntimeError, MemoryError) as error:  # another process may take what is free, or it may lie in pieces
        if not is_out_of_memory(error):
            raise
        return None


def copy_in_parts(arrays: np.ndarray | Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Return arrays after one another on the device; on the way, only a part is in the memory of the host."""
    arrays = [arrays] if isinstance(arrays, np.ndarray) else arrays
    rows, first = max(1, COPIED_BYTES // arrays[0][0].nbytes), 0
    shape, dtype = (sum(map(len, arrays)), *arrays[0].shape[1:]), torch.from_numpy(arrays[0][:0].copy()).dtype
    copied = torch.empty(shape, dtype=dtype, device=device)
    for array in arrays:
        for start in range(0, len(array), rows):
            part = torch.from_numpy(np.array(array[start : start + rows])).to(device)
            copied[first + start : first + start + len(part)] = part
        first += len(array)
    return copied


def room_on(device: torch.device) -> int:
    """Return the number of bytes that a data set may take of an accelerator's memory; 0 if it does not say."""
    if device.type == "cuda" and torch.cuda.is_available():
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        free = 0
    return min(RESIDENT_BYTES, free // SHARE)


def memory_of_machine() -> float:
    """Return the bytes of this machine's memory; infinity if the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf
