"""Whether a network may teach: what it says must depend on the image, and be right more often than a fixed word.

Costs nothing where all is well: what is looked at was computed when the network was trained or taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kd.evaluation.metrics import balanced_accuracy, confusion
from kd.runtime.text import first_few

ROUNDING = 1e-4  # of the largest logit, or of 1: what differs less differs by rounding
FEW = 10  # classes that are written out


def check_not_constant(name: str, logits: np.ndarray) -> None:
    """Refuse a network that says the same of every image.

    Args:
        name: of the network, for people. logits: [N, K], of any images that differ.

    Raises:
        ValueError: logits that are not finite, or whose softmax is one for all images up to rounding.
    """
    bad = int((~np.isfinite(logits)).any(-1).sum())
    if bad:
        raise ValueError(f"the {name}'s logits are NaN or infinite for {bad} of {len(logits)} images: it cannot teach")
    centred = logits - logits.mean(-1, keepdims=True)  # a softmax sees no more
    if len(logits) > 1 and np.ptp(centred, axis=0).max() <= ROUNDING * max(1, np.abs(centred).max()):
        raise ValueError(
            f"the {name}'s output is constant: it says the same of each of {len(logits)} images and can teach nothing. "
            "Were its weights damaged, or its training (a learning rate far too high, a classifier at zero)?"
        )


def check_above_majority(
    name: str,
    share: float,
    targets: np.ndarray,
    classes: Sequence[str],
    answers: Callable[[], np.ndarray],
    balanced: bool = False,
) -> None:
    """Refuse a network that is right less often than whoever always says the commonest class.

    Args:
        share: of the validation images, on which it is right. targets: [N], of these images.
        answers: makes its logits for them, [N, K]; asked only where it is refused, to see why.
        balanced: rare classes are what is wanted, so that it may as well be right more often in the mean over classes.

    Raises:
        ValueError: with both shares and what may be the reason.
    """
    counts = np.bincount(targets, minlength=len(classes))
    majority = counts.max() / len(targets)
    if share >= majority or (balanced and balanced_accuracy(answers(), targets) > 1 / np.count_nonzero(counts)):
        return
    order, ours = _other_order(confusion(answers(), targets), majority), first_few(classes, FEW)
    if order is None:
        why = (
            f"Perhaps its classes stand in another order than here ({ours}), its input was normalised "
            "otherwise (teacher.mean, teacher.std), or it was trained too briefly or too fast (train.*.epochs, "
            "train.*.lr)."
        )
    else:
        named = first_few([classes[label] for label in order], FEW)
        why = f"Its classes stand in another order, {named}: here they are {ours}. Reorder its last layer."
    raise ValueError(
        f"the {name} is right on {share:.1%} of the validation images, and whoever says {classes[counts.argmax()]!r} "
        f"of each of them is on {majority:.1%}: it would teach what is wrong. {why} "
        "teacher.allow_weak=true lets it teach all the same."
    )


def _other_order(counts: np.ndarray, majority: float) -> list[int] | None:
    """The true class behind each output, where each has one of its own and that makes the network good, else None.

    Args:
        counts: [K, K], rows are true classes, columns predicted ones.
    """
    meant = counts.argmax(0)
    right = counts[meant, np.arange(len(meant))].sum() / counts.sum()
    return meant.tolist() if len(set(meant)) == len(meant) and right > (1 + majority) / 2 else None
