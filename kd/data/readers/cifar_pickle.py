"""CIFAR's batches, which are pickles by format, read without running anything that a pickle asks for.

A pickle names functions and calls them; a stranger's may call anything. Here three names of numpy are known, which
every batch needs, and even they stand for a note of what was said: no function of numpy's is called. Any other name is
refused. The machine is Python's own one in Python, whose memory of past objects grows by use; the one in C makes a
table as large as a file asks for.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),  # where newer versions of numpy keep it
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class Name:
    """In place of a function that a pickle names; calling it makes a note."""

    __slots__ = ()

    def __call__(self, *said: Any) -> StubObject:
        return StubObject(said)


class StubObject:
    """What a pickle says of an array or of a type: the arguments, then the state."""

    __slots__ = ("said", "state")

    def __init__(self, said: tuple):
        self.said, self.state = said, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle._Unpickler):
    dispatch = {code: step for code, step in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def find_class(self, module: str, name: str) -> Name:
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return Name()


def read_pickle(data: bytes) -> dict[str, Any]:
    """Return the dictionary of a batch: strings, numbers, lists and uint8 arrays.

    Raises:
        ValueError: for anything else, and for a pickle that is damaged.
    """
    try:
        found = _Reader(io.BytesIO(data), encoding="latin1").load()  # of Python 2: bytes and text were one
    except Exception as error:  # a damaged pickle raises almost anything
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise ValueError(f"no pickle of a CIFAR batch: {reason}") from error
    if not isinstance(found, dict):
        raise ValueError(f"no pickle of a CIFAR batch: it holds a {type(found).__name__}")
    return {key: _array(value) if isinstance(value, StubObject) else value for key, value in found.items()}


def _array(note: StubObject) -> np.ndarray:
    """The uint8 array of which a pickle said version, shape, type, order and bytes."""
    try:
        _, shape, kind, columns_first, data = note.state
        data = data.encode("latin1") if isinstance(data, str) else data
        right = kind.said[0] in ("u1", "|u1") and isinstance(data, bytes)
        if not right or len(data) != math.prod(shape):
            raise ValueError("it is not of unsigned bytes, or not of as many as its shape says")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if columns_first else "C")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"no pickle of a CIFAR batch: an array is damaged ({error})") from error
