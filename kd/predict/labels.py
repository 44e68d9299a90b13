"""The true class of a file: the name of the folder in which it lies."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from kd.data.class_folders import folded
from kd.data.files import printable
from kd.runtime.text import did_you_mean, first_few

MAX_NAMED = 5  # classes in a message


def labels_of(files: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the class of each file, int64 [N].

    Args:
        classes: as a network names them: with unprintable characters escaped. Composed and decomposed accents are the
            same.

    Raises:
        ValueError: a file lies in a folder that is no class of the network.
    """
    numbers = {folded(name): number for number, name in enumerate(classes)}
    folders = [os.path.basename(os.path.dirname(os.path.abspath(file))) for file in files]
    unknown = {folder: file for folder, file in zip(folders, files, strict=True) if folded(folder) not in numbers}
    if unknown:
        folder, file = next(iter(unknown.items()))
        others = len(unknown) - 1
        more = f", and so are {others:,} more folders" if others > 1 else ", and so is 1 more folder" if others else ""
        raise ValueError(
            f"--labels: {printable(file)} lies in the folder {printable(folder)!r}, which is no class of this "
            f"network{more}; its classes are {first_few(map(printable, classes), MAX_NAMED)}"
            f"{did_you_mean(printable(folder), classes)}"
        )
    return np.array([numbers[folded(folder)] for folder in folders], np.int64)
