"""Teacher checks: outputs must vary with the input and beat the majority class.

A teacher that passes costs nothing: the checks read logits that were computed when it was trained or loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kd.evaluation.metrics import balanced_accuracy, confusion
from kd.runtime.text import first_few

ROUNDING = 1e-4  # relative to the largest logit, or to 1: smaller differences are rounding
MAX_LISTED_CLASSES = 10  # classes that a message lists


def check_not_constant(name: str, logits: np.ndarray) -> None:
    """Refuse a network with the same output for every image.

    Args:
        name: the role of the network, for the message. logits: [N, K], of N different images.

    Raises:
        ValueError: the logits are not finite, or their softmax is the same for all images, up to rounding.
    """
    bad = int((~np.isfinite(logits)).any(-1).sum())
    if bad:
        raise ValueError(f"the {name}'s logits are NaN or infinite for {bad} of {len(logits)} images: it cannot teach")
    centred = logits - logits.mean(-1, keepdims=True)  # a softmax depends on nothing else
    if len(logits) > 1 and np.ptp(centred, axis=0).max() <= ROUNDING * max(1, np.abs(centred).max()):
        raise ValueError(
            f"the {name}'s output is constant: it is the same for each of {len(logits)} images, so it cannot teach. "
            "Perhaps its weights are damaged, or its training failed (learning rate far too high, zero classifier)."
        )


def check_above_majority(
    name: str,
    share: float,
    targets: np.ndarray,
    classes: Sequence[str],
    predict: Callable[[], np.ndarray],
    balanced: bool = False,
) -> None:
    """Refuse a network whose accuracy is below that of always predicting the majority class.

    Args:
        share: its accuracy on the validation images. targets: [N], of these images.
        predict: returns its logits for them, [N, K]; called only if ``share`` is too low.
        balanced: rare classes matter, so a balanced accuracy above that of the majority class is enough.

    Raises:
        ValueError: with both accuracies and a possible reason.
    """
    counts = np.bincount(targets, minlength=len(classes))
    majority = counts.max() / len(targets)
    if share >= majority or (balanced and balanced_accuracy(predict(), targets) > 1 / np.count_nonzero(counts)):
        return
    order, ours = _other_order(confusion(predict(), targets), majority), first_few(classes, MAX_LISTED_CLASSES)
    if order is None:
        why = (
            f"Perhaps its classes have another order than here ({ours}), its input was normalised differently "
            "(teacher.mean, teacher.std), or it was trained too briefly or with too high a learning rate "
            "(train.*.epochs, train.*.lr)."
        )
    else:
        named = first_few([classes[label] for label in order], MAX_LISTED_CLASSES)
        why = f"Its classes have another order, {named}: here they are {ours}. Reorder its last layer."
    raise ValueError(
        f"the {name}'s accuracy on the validation images is {share:.1%}, below the {majority:.1%} of always predicting "
        f"{classes[counts.argmax()]!r}, so it would teach errors. {why} Set teacher.allow_weak=true to use it anyway."
    )


def _other_order(counts: np.ndarray, majority: float) -> list[int] | None:
    """Return the true class of each output if reordering the outputs makes the network good, else None.

    Args:
        counts: [K, K], rows are true classes, columns predicted ones.
    """
    classes = counts.argmax(0)
    right = counts[classes, np.arange(len(classes))].sum() / counts.sum()
    return classes.tolist() if len(set(classes)) == len(classes) and right > (1 + majority) / 2 else None
