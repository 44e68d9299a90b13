"""Images that stand in a data set more than once: in several classes (label noise), in training and test (a leak).

Only what is equal pixel for pixel after decoding is found. Near-duplicates (another size, another compression, the next
frame of a film) are not looked for.
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

LISTED = 20  # pairs named
LEAKED, PAIRS = "images_in_train_and_test", "train_and_test_pairs"


def find_duplicates(
    images: np.ndarray,
    targets: np.ndarray,
    in_train: np.ndarray,
    name: Callable[[int], str],
    in_val: np.ndarray | None = None,
) -> dict[str, int | list[str]]:
    """Return notes with the number of different images that stand in both places, and names of the first leaks.

    Args:
        images: [N, H, W, C]. in_train: [N] bool, true for validation too. name: of a row, as its owner knows it.
        in_val: [N] bool, where the set itself says who validates.
    """
    seen: dict[bytes, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        seen[hashlib.sha256(np.ascontiguousarray(image)).digest()].append(row)
    chosen = in_val if in_val is not None else np.zeros(len(images), bool)
    trained = in_train & ~chosen
    both = sum(any(trained[row] for row in rows) and any(chosen[row] for row in rows) for rows in seen.values())
    several = sum(len({targets[row] for row in rows}) > 1 for rows in seen.values())
    pairs = []
    for rows in seen.values():
        train, test = [row for row in rows if in_train[row]], [row for row in rows if not in_train[row]]
        if train and test:
            pairs.append((train[0], test[0]))
    notes: dict[str, int | list[str]] = {"images_in_several_classes": several, LEAKED: len(pairs)}
    notes["images_in_train_and_validation"] = both
    notes[PAIRS] = [f"{name(train)} = {name(test)}" for train, test in pairs[:LISTED]]
    return {key: note for key, note in notes.items() if note}


def check_setting(on_leak: str) -> None:
    """Refuse a word that ``judge`` would not know, before anything is decoded."""
    check_choice("on_leak", on_leak, ("warn", "error"))


def warn_duplicates(name: str, notes: Mapping[str, Any]) -> None:
    """Say once, when a data set is decoded, what the report will say of every run."""
    if notes.get(LEAKED):
        warn_user(
            f"{_describe(name, notes)}\nThe accuracy on the test will flatter. data.on_leak=error refuses such data."
        )


def refuse_duplicates(name: str, notes: Mapping[str, Any]) -> None:
    """Refuse a data set with leaks.

    Raises:
        ValueError: with their names, or with their number alone where they were decoded before names were kept.
    """
    if notes.get(LEAKED):
        raise ValueError(
            f"data.on_leak=error: {_describe(name, notes)}\n"
            "Remove them from one of the two, or go on all the same with data.on_leak=warn"
        )


def _describe(name: str, notes: Mapping[str, Any]) -> str:
    count, pairs = notes[LEAKED], notes.get(PAIRS, [])
    text = f"{name}: {count} {'image stands' if count == 1 else 'images stand'} in training and in the test alike"
    text += ", pixel for pixel"
    named = first_few(pairs, LISTED, "\n  ", total=count)
    return f"{text}:\n  {named}" if pairs else text
