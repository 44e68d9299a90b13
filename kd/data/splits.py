"""Stratified splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kd.data.checks import check_class_counts, check_fraction, name_setting


def stratified_split(
    targets: np.ndarray,
    fraction: float,
    seed: int,
    classes: Sequence[str] = (),
    setting: str = "val_fraction",
    parts: str = "training and validation",
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions as (rest, ``fraction`` of every class), with at least one image of each class on either side.

    Args:
        setting, parts: names of ``fraction`` and of what comes out, for the error.

    Raises:
        ValueError: for a fraction outside (0, 1) or a class with a single image, named from ``classes``.
    """
    check_fraction(setting, fraction)
    present, row = np.unique(targets, return_inverse=True)
    names = [str(classes[label]) if len(classes) > label else f"class {label}" for label in present]
    with name_setting(setting, fraction):
        check_class_counts(row, names, 2, f"the training part, which is split into {parts}")
    generator = np.random.default_rng(seed)
    taken = []
    for label in present:
        members = np.flatnonzero(targets == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        taken.append(generator.permutation(members)[:count])
    val = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(targets)), val), val
