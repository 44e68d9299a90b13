"""Find images that occur more than once: in several classes (label noise), in training and test (a leak).

Two images are duplicates if they are equal pixel for pixel after decoding. Near-duplicates (another size, another
compression, the next frame of a film) are not looked for.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kd.data.checks import check_choice
from kd.runtime.text import first_few
from kd.runtime.user_warnings import warn_user

MAX_LISTED = 20  # pairs that are named
LEAKED, PAIRS = "images_in_train_and_test", "train_and_test_pairs"


def find_duplicates(
    images: np.ndarray,
    targets: np.ndarray,
    in_train: np.ndarray,
    name: Callable[[int], str],
    in_val: np.ndarray | None = None,
) -> dict[str, int | list[str]]:
    """Return notes: how many distinct images are in several classes or splits, and the first leaks by name.

    Args:
        images: [N, H, W, C]. in_train: [N] bool, true for validation too. name: returns the name of a row.
        in_val: [N] bool, if the data set has a validation split of its own.
    """
    seen: dict[bytes, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        seen[hashlib.sha256(np.ascontiguousarray(image)).digest()].append(row)
    validating = in_val if in_val is not None else np.zeros(len(images), bool)
    trained = in_train & ~validating
    both = sum(any(trained[row] for row in rows) and any(validating[row] for row in rows) for rows in seen.values())
    several = sum(len({targets[row] for row in rows}) > 1 for rows in seen.values())
    pairs = []
    for rows in seen.values():
        train, test = [row for row in rows if in_train[row]], [row for row in rows if not in_train[row]]
        if train and test:
            pairs.append((train[0], test[0]))
    notes: dict[str, int | list[str]] = {"images_in_several_classes": several, LEAKED: len(pairs)}
    notes["images_in_train_and_validation"] = both
    notes[PAIRS] = [f"{name(train)} = {name(test)}" for train, test in pairs[:MAX_LISTED]]
    return {key: note for key, note in notes.items() if note}


def check_setting(on_leak: str) -> None:
    """Raise ValueError for an unknown ``on_leak``, before anything is decoded."""
    check_choice("on_leak", on_leak, ("warn", "error"))


def warn_duplicates(name: str, notes: Mapping[str, Any]) -> None:
    """Warn about leaks once, when a data set is decoded; the report of every run has them too."""
    if notes.get(LEAKED):
        warn_user(
            f"{_describe(name, notes)}\nThe test accuracy is too optimistic. data.on_leak=error refuses such data."
        )


def refuse_duplicates(name: str, notes: Mapping[str, Any]) -> None:
    """Raise ValueError for a data set with leaks.

    The message names them; it has their number alone if the data set was decoded by a version that kept no names.
    """
    if notes.get(LEAKED):
        raise ValueError(
            f"data.on_leak=error: {_describe(name, notes)}\n"
            "Remove them from one of the two splits, or continue with data.on_leak=warn"
        )


def _describe(name: str, notes: Mapping[str, Any]) -> str:
    count, pairs = notes[LEAKED], notes.get(PAIRS, [])
    text = f"{name}: {count} {'image is' if count == 1 else 'images are'} in both training and test, pixel for pixel"
    named = first_few(pairs, MAX_LISTED, "\n  ", total=count)
    return f"{text}:\n  {named}" if pairs else text
