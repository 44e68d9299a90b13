"""Where the answers go: standard output, a file, and a file of logits."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from kd.data.files import printable
from kd.predict.classify import Predictions
from kd.store.files import write_bytes


def check_place(path: Path, option: str) -> None:
    """Refuse a place where no file can be written, before the work.

    Raises:
        ValueError: it is a folder, or its folder is not there.
    """
    if path.is_dir():
        raise ValueError(f"{option} {printable(path)} is a folder: name a file")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{option} {printable(path)}: there is no folder {printable(path.absolute().parent)}")


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; a pipe or a device, such as /dev/null, gets the bytes and stays.

    Raises:
        OSError: it cannot be written; the message names ``path``.
    """
    place = path.resolve()
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(content)
        else:
            write_bytes(place, content)
    except OSError as error:  # it names the file beside it that takes its place
        raise OSError(f"{printable(path)} cannot be written: {error.strerror or error}") from error


def write_stdout(content: bytes) -> None:
    """Write UTF-8 to standard output, whatever the encoding of the terminal."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # a notebook's
        sys.stdout.write(content.decode("utf-8", "replace"))
        return
    sys.stdout.flush()
    rest = memoryview(content)
    while rest:  # python -u has no buffer, and may write a part
        rest = rest[buffer.write(rest) :]
    buffer.flush()


def write_logits(path: Path, found: Predictions) -> None:
    """Write ``file`` [N], ``logits`` float32 [N, K] and, with labels, ``target`` int64 [N] as .npz."""
    arrays = {"file": np.array(found.files, dtype=np.str_), "logits": found.logits}
    if found.target is not None:
        arrays["target"] = found.target
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez has a parameter "file" of its own
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    write_file(path, content.getvalue())
