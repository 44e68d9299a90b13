"""What a method may ask to be shown beside the images of a batch: rows that follow its own, in blocks of equal size.

A term names it as ``sampler``, see ``kd.train.objective.Objective.sampler``:

- ``same_class_pairs``: each image comes with another image of its class (CS-KD).
- ``half_previous``: the images come with those of the previous step, in another view (DLB).
- ``rotations``: each image comes with its rotations by 90, 180 and 270 degrees (SSKD).

What is shown is a function of (seed, epoch). A row and the one that belongs to it have the same place in their blocks,
so both are in one micro-batch and on one process, whatever the number of these.
"""

from __future__ import annotations

import numpy as np

BLOCKS = {"same_class_pairs": 2, "half_previous": 2, "rotations": 4}  # of rows in a batch
LEARNING = {"same_class_pairs": 1, "half_previous": 2, "rotations": 1}  # of these, the first ones: learn their labels


def check_sampler(sampler: str | None, mixup: float = 0.0, cutmix: float = 0.0) -> None:
    """Refuse a sampler that does not exist, or that does not go with the mixtures of a training.

    Raises:
        ValueError: with what would be right.
    """
    if sampler is None:
        return
    if sampler not in BLOCKS:
        raise ValueError(f"a term's sampler must be one of {', '.join(BLOCKS)}, got {sampler!r}")
    if sampler == "same_class_pairs" and (mixup or cutmix):
        raise ValueError(
            "the method compares images of the same class, and a mixture of two images has no single class: set "
            f"train.student.mixup=0 and train.student.cutmix=0, got {mixup:g} and {cutmix:g}"
        )


def same_class_pairs(
    order: np.ndarray, train: np.ndarray, targets: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return another image of the same class for each image of an epoch, int64 [N], drawn evenly.

    An image that is the only one of its class, and one without a label (target -1), comes with itself.

    Args:
        order: int64 [N], positions of images of ``train``. train: int64 [n], to draw from. targets: int64, of all.
    """
    train, has_label = train[targets[train] >= 0], targets[order] >= 0
    by_class, own = train[np.argsort(targets[train], kind="stable")], order[has_label]
    sizes = np.bincount(targets[train])
    place = np.empty(len(targets), np.int64)  # among the images sorted by class
    place[by_class] = np.arange(len(by_class))
    size, first = sizes[targets[own]], (sizes.cumsum() - sizes)[targets[own]]
    further = 1 + (generator.random(len(own)) * (size - 1)).astype(np.int64)
    other = order.copy()
    other[has_label] = by_class[first + (place[own] - first + further) % size]
    return other


def half_previous(order: np.ndarray, batch_size: int, before: np.ndarray | None) -> np.ndarray:
    """Return the images of the step before each step of an epoch, int64 [N].

    Args:
        order: int64 [N], the images of the epoch, step after step.
        before: int64 [batch_size], the images of the last step of the epoch before; None: the first step comes with
            its own images.
    """
    return np.concatenate([order[:batch_size] if before is None else before, order[:-batch_size]])
