"""Non-finite losses: detected within a hundred steps, with the cause in the error message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor

from kd.interfaces import Batch, Outputs
from kd.train.state import TrainState

CHECK_EVERY = 100  # steps between two checks: each waits for the device
HELP = "A lower train.*.lr or train.*.clip_norm=1 often helps."

Again = Callable[[int], Iterable[tuple[Batch, Outputs | None]]]


class NonFiniteLoss(ArithmeticError):
    """The loss is NaN or infinite."""


def check_due(step: int) -> bool:
    """Whether to check after this many steps of an epoch: at powers of two too, as most divergence comes early."""
    return step % CHECK_EVERY == 0 or step & (step - 1) == 0


def check_finite(state: TrainState, names: Sequence[str], stage: str, again: Again) -> Tensor:
    """Return the results of this epoch's steps, over all processes: [steps, numbers].

    Args:
        names: of the numbers: the loss, its terms, and the accuracy, which is NaN where the logits are not finite.
        again: makes the batches of a step once more, with the teacher's outputs.

    Raises:
        NonFiniteLoss: a number is not finite; names the term, epoch, step, learning rate and cause.
    """
    table = state.world.all_reduce_mean(state.step_table())
    bad = (~table.isfinite()).any(1).nonzero()
    if not len(bad):
        return table
    step = int(bad[0])
    finite = dict(zip(names, table[step].isfinite().tolist(), strict=True))
    loss, *terms, logits = finite
    wrong = [name for name in terms if not finite[name]] or [loss]
    raise NonFiniteLoss(
        f"{stage}: {' and '.join(wrong)} {'are' if len(wrong) > 1 else 'is'} not finite at epoch {state.epoch}, "
        f"step {step + 1}, learning rate {state.rates[step]:.3g}. {find_source(state, again(step), finite[logits])}"
    )


def check_logits(logits: np.ndarray, stage: str, epoch: int) -> None:
    """Refuse validation logits that are not finite.

    Raises:
        NonFiniteLoss: with the number of images.
    """
    bad = int((~np.isfinite(logits)).any(-1).sum())
    if bad:
        raise NonFiniteLoss(
            f"{stage}: the logits of {bad} of {len(logits)} validation images are not finite after epoch {epoch}. "
            + HELP
        )


def find_source(state: TrainState, micro_batches: Iterable[tuple[Batch, Outputs | None]], logits: bool) -> str:
    """Say which is not finite first: images, teacher's logits, own logits or a term. Each process checks its slice."""
    finite = [
        (bool(batch.image.isfinite().all()), outputs is None or bool(outputs.logits.isfinite().all()))
        for batch, outputs in micro_batches
    ]
    images, teachers = (all(map(all, state.world.all_gather(column))) for column in zip(*finite, strict=True))
    if not images:
        return "The images of that step are not finite: the cause is the data or the augmentation, not the training."
    if not teachers:
        return "The teacher's logits are not finite there: the cause is the teacher, not the training."
    if not logits:
        return f"The network's own logits are not finite there: its weights diverged. {HELP}"
    return f"Images, teacher's logits and the network's logits are finite there: the cause is the term. {HELP}"
