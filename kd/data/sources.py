"""Where an image lies: in a file of its own, in a part of another file, or in a library that decodes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, Protocol

from PIL import Image

from kd.data.files import unreadable_reason


class Embedded(Protocol):
    """An encoded image inside another file, such as a tar shard."""

    size: int  # bytes

    def read(self, count: int = -1) -> bytes:
        """Return its bytes, or the first ``count`` of them; called from several threads."""


class Picture(Protocol):
    """An image that a library decodes."""

    def picture(self) -> Image.Image:
        """Return it, of 8 bits a channel; called from several threads."""


Source = str | Embedded | Picture  # a path, or one of these


def is_picture(source: Source) -> bool:
    return hasattr(source, "picture")


def refusal(source: str | Embedded) -> str | None:
    """Return why a source must not be opened, or None. It is not opened here: a pipe would block."""
    if isinstance(source, str):
        return unreadable_reason(source)
    return None if source.size else "the file is empty"


def size_of(source: str | Embedded) -> int:
    """Return the number of bytes."""
    return os.path.getsize(source) if isinstance(source, str) else source.size


def head_of(source: str | Embedded, count: int) -> bytes:
    """Return the first ``count`` bytes."""
    if not isinstance(source, str):
        return source.read(count)
    with open(source, "rb") as file:
        return file.read(count)


@contextmanager
def stream_of(source: str | Embedded) -> Iterator[BinaryIO]:
    """Open a source for reading."""
    if isinstance(source, str):
        with open(source, "rb") as file:
            yield file
    else:
        yield BytesIO(source.read())
