"""A loss that is no number: found within a hundred steps, and told with what went bad first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor

from kd.interfaces import Batch, Outputs
from kd.train.state import TrainState

EVERY = 100  # steps between two looks: each waits for the device
HELP = "A lower train.*.lr or train.*.clip_norm=1 often helps."

Again = Callable[[int], Iterable[tuple[Batch, Outputs | None]]]


class NonFiniteLoss(ArithmeticError):
    """The loss is no longer a number."""


def check_due(step: int) -> bool:
    """Whether to look behind so many steps of an epoch: at powers of two as well, for most diverge at once."""
    return step % EVERY == 0 or step & (step - 1) == 0


def check_finite(stand: TrainState, names: Sequence[str], stage: str, again: Again) -> Tensor:
    """Return what the steps of this epoch came to, over all processes: [steps, numbers].

    Args:
        names: of the numbers: the loss, its terms, and the accuracy, which is NaN where the logits are not finite.
        again: makes the images of a step once more, and asks the teacher once more.

    Raises:
        Diverged: where one of them is not finite: the term, epoch, step, learning rate, and where it came from.
    """
    table = stand.ranks.all_reduce_mean(stand.step_table())
    bad = (~table.isfinite()).any(1).nonzero()
    if not len(bad):
        return table
    step = int(bad[0])
    finite = dict(zip(names, table[step].isfinite().tolist(), strict=True))
    loss, *terms, logits = finite
    wrong = [name for name in terms if not finite[name]] or [loss]
    raise NonFiniteLoss(
        f"{stage}: {' and '.join(wrong)} {'are' if len(wrong) > 1 else 'is'} not finite at epoch {stand.epoch}, "
        f"step {step + 1}, learning rate {stand.rates[step]:.3g}. {find_source(stand, again(step), finite[logits])}"
    )


def check_logits(logits: np.ndarray, stage: str, epoch: int) -> None:
    """Refuse validation logits that are not finite.

    Raises:
        Diverged: how many are not.
    """
    bad = int((~np.isfinite(logits)).any(-1).sum())
    if bad:
        raise NonFiniteLoss(
            f"{stage}: the logits of {bad} of {len(logits)} validation images are not finite behind epoch {epoch}. "
            + HELP
        )


def find_source(stand: TrainState, micro_batches: Iterable[tuple[Batch, Outputs | None]], logits: bool) -> str:
    """What came first of images, answer, logits and term; every process looks at its slice."""
    seen = [
        (bool(batch.image.isfinite().all()), answer is None or bool(answer.logits.isfinite().all()))
        for batch, answer in micro_batches
    ]
    images, answers = (all(map(all, stand.ranks.all_gather(column))) for column in zip(*seen, strict=True))
    if not images:
        return "The images of that step are not finite: data or augmentation are at fault, not the training."
    if not answers:
        return "The teacher's answer is not finite there: it is at fault, not the training."
    if not logits:
        return f"The network's own logits are not finite there: its weights have left all bounds. {HELP}"
    return f"Images, teacher's answer and logits are finite there: it is the term. {HELP}"
