"""Read CIFAR batches, which are pickles, without running anything that a pickle calls.

A pickle names functions and calls them, so an untrusted one may call anything. This reader accepts three names of
numpy, which every batch needs, and replaces even these by stubs that record their arguments: no numpy function is
called. It refuses any other name. It uses the unpickler in Python, whose memo grows with use; the one in C allocates a
table as large as the file demands.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),  # its place in newer versions of numpy
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class Name:
    """Stands in for a function that a pickle names; a call records its arguments."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> StubObject:
        return StubObject(arguments)


class StubObject:
    """Arguments and state that a pickle holds for an array or a type."""

    __slots__ = ("arguments", "state")

    def __init__(self, arguments: tuple):
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle._Unpickler):
    dispatch = {code: step for code, step in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def find_class(self, module: str, name: str) -> Name:
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no batch needs")
        return Name()


def read_pickle(data: bytes) -> dict[str, Any]:
    """Return the dictionary of a batch: strings, numbers, lists and uint8 arrays.

    Raises:
        ValueError: for anything else, and for a pickle that is damaged.
    """
    try:
        found = _Reader(io.BytesIO(data), encoding="latin1").load()  # Python 2 wrote bytes as text
    except Exception as error:  # a damaged pickle raises almost anything
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise ValueError(f"not a pickle of a CIFAR batch: {reason}") from error
    if not isinstance(found, dict):
        raise ValueError(f"not a pickle of a CIFAR batch: it holds a {type(found).__name__}")
    return {key: _array(value) if isinstance(value, StubObject) else value for key, value in found.items()}


def _array(stub: StubObject) -> np.ndarray:
    """Return the uint8 array of a stub whose state is version, shape, type, order and bytes."""
    try:
        _, shape, kind, columns_first, data = stub.state
        data = data.encode("latin1") if isinstance(data, str) else data
        is_bytes = kind.arguments[0] in ("u1", "|u1") and isinstance(data, bytes)
        if not is_bytes or len(data) != math.prod(shape):
            raise ValueError("its type is not uint8, or its size does not match its shape")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if columns_first else "C")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"not a pickle of a CIFAR batch: an array is damaged ({error})") from error
