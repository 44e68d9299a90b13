"""The gradients of the terms in the course of a training: before its first step, at a tenth, and at its end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from kd.interfaces import Batch, Outputs
from kd.runtime.console import print_line
from kd.runtime.errors import first_line
from kd.runtime.user_warnings import warn_user
from kd.train.balance import take_balanced_weights, warn_of_drowned_labels
from kd.train.gradients import LABELS, Pull, active_weights, table_of
from kd.train.state import TrainState
from kd.train.step import TrainStep
from kd.train.trial import free_memory

LIMIT = 0.02  # of a training's time that its measurements may take
MOST = 3  # micro-batches of a measurement
MIDDLE = 0.5  # share of the training at which a term counts that its own schedule switches off at the start

Part = tuple[Batch, Outputs | None]  # a micro-batch, and the teacher's answer


class Ahead:
    """The micro-batches of an epoch, with the teacher's answers; the first can be looked at before they are taken."""

    def __init__(self, parts: Iterator[Part]):
        self.parts, self.waiting = parts, deque[Part]()

    def look_ahead(self, count: int) -> list[Part]:
        """Return the next micro-batches, up to ``count``, which ``next`` returns again."""
        self.waiting.extend(islice(self.parts, max(0, count - len(self.waiting))))
        return [*islice(self.waiting, count)]

    def __next__(self) -> Part:
        return self.waiting.popleft() if self.waiting else next(self.parts)


class Meter:
    """Measures a training with several terms or a teacher.

    Several processes measure their own slices of a micro-batch, with its batch statistics, and take the mean.

    Args:
        step, state: of the training. steps: of an epoch. epochs: of its recipe.
        is_wanted: whether the rows of the log get the measurements. Without that, and without weights to balance,
            nothing is measured.
    """

    def __init__(self, step: TrainStep, state: TrainState, steps: int, epochs: int, stage: str, is_wanted: bool):
        self.step, self.objective, self.state = step, step.objective, state
        self.steps, self.epochs, self.stage, self.is_on = steps, epochs, stage, is_wanted
        self.count, self.starts = moments(steps, epochs, len(self.objective.terms))

    def begin(self, look_ahead: Callable[[int], Sequence[Part]]) -> None:
        """Before the first step: balance the weights if they are to be balanced, else warn of drowned labels.

        Args:
            look_ahead: returns that many micro-batches, from the first.
        """
        state, balance = self.state, self.objective.balance
        if (state.epoch, state.step) != (1, 0) or state.measured or not (self.is_on or balance):
            return
        pulls, labels = self.measure_start(look_ahead(MOST if balance else self.count))
        if balance:
            weights = take_balanced_weights(self.objective, labels, pulls)
            text = ", ".join(f"{name} {weight:.4g}" for name, weight in weights.items())
            print_line(f"{self.stage}: balanced weights: {text}")
        elif pulls:
            warn_of_drowned_labels(self.objective, self.stage, labels, pulls)

    def measure_start(self, parts: Sequence[Part]) -> tuple[dict[str, Pull], float]:
        """Return what each unweighted term pulls at the initial weights, and the norm of the labels' gradient.

        All terms are measured, those too that begin later. One that is zero because of a schedule of its own is
        measured as in the middle of the training.
        """
        tally = Tally(0.0, list(self.objective.terms))
        for batch, answer in parts:
            self._add(tally, batch._replace(progress=self._middle_of_step(0.0)), answer)
        if not tally.count:
            return {}, math.nan
        self.state.measured.append(vars(tally))
        pulls = tally.pulls()
        if late := [name for name, pull in pulls.items() if pull.norm == 0]:
            again = Tally(MIDDLE, late)
            for batch, answer in parts:
                self._add(again, batch._replace(progress=MIDDLE), answer)
            pulls |= again.pulls() if again.count else {}
        return pulls, tally.labels

    def is_due(self, number: int) -> bool:
        """Whether to ``look`` at a micro-batch of the next step; ``number`` counts them from 0."""
        epoch, step = self.state.epoch, self.state.step
        return self.is_on and number == 0 and any(at == epoch and 0 <= step - s < self.count for at, s in self.starts)

    def look(self, batch: Batch, answer: Outputs | None) -> None:
        """Measure the gradients of the active terms on a micro-batch that the next step learns."""
        epoch, step, measured = self.state.epoch, self.state.step, self.state.measured
        if (epoch, step) in self.starts or not measured:
            progress = (epoch - 1 + step / self.steps) / self.epochs
            measured.append(vars(Tally(progress, [*active_weights(self.objective, batch.progress)])))
        tally = Tally.of(measured[-1])
        if self._add(tally, batch, answer):
            measured[-1] = vars(tally)

    def rows(self) -> dict[str, Any]:
        """Return what the row of this epoch gets: ``{"gradients": [...]}`` if it was measured."""
        tallies = [tally for tally in map(Tally.of, self.state.measured) if tally.count]
        if not self.is_on or not tallies:
            return {}
        return {
            "gradients": [
                tally.row(active_weights(self.objective, self._middle_of_step(tally.progress))) for tally in tallies
            ]
        }

    def _middle_of_step(self, progress: float) -> float:
        return progress + 0.5 / (self.steps * self.epochs)

    def _add(self, tally: Tally, batch: Batch, answer: Outputs | None) -> bool:
        """Add a micro-batch, on all processes or on none. One that cannot be measured ends the measuring, not the
        training, unless the weights depend on it."""
        table, failed = torch.zeros(1 + len(tally.terms), 2, dtype=torch.float64), None
        try:
            table = table_of(self.step, batch, answer, tally.terms)
        except Exception as error:
            failed = error
        world = self.state.world
        if world.all_reduce_max(int(failed is not None)):
            if self.objective.balance and self.state.epoch == 1 and not self.state.measured:
                raise failed or RuntimeError(f"{self.stage}: kd.balance=auto failed on another process")
            failed = failed and first_line(failed)  # the error itself holds its tensors
            self.is_on = False
            free_memory(self.step.device)
            reason = f": {failed}" if failed else " on another process"
            warn_user(f"{self.stage}: the gradients of its terms cannot be measured{reason}")
            return False
        tally.add(world.all_reduce_mean(table))
        return True


class Tally:
    """Sums of tables over micro-batches. Its attributes are plain values, which a checkpoint holds.

    Args:
        progress: share of the training that was done at the first of them. terms: those that are measured.
    """

    def __init__(self, progress: float, terms: Sequence[str]):
        self.progress, self.terms, self.count = progress, list(terms), 0
        self.sums = [[0.0, 0.0] for _ in range(1 + len(terms))]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Tally:
        """Return the tally whose ``vars`` these are."""
        tally = cls(values["progress"], values["terms"])
        tally.count, tally.sums = values["count"], values["sums"]
        return tally

    def add(self, table: Tensor) -> None:
        """Add a table of ``kd.train.gradients.table_of``."""
        self.sums = (torch.tensor(self.sums, dtype=torch.float64) + table).tolist()
        self.count += 1

    @property
    def labels(self) -> float:
        """The norm of the labels' gradient; NaN without label terms."""
        return self.sums[LABELS][0] / self.count

    def pulls(self) -> dict[str, Pull]:
        """Return norm and cosine of each unweighted term."""
        means = ([value / self.count for value in row] for row in self.sums[LABELS + 1 :])
        return {name: Pull(norm, finite(cosine)) for name, (norm, cosine) in zip(self.terms, means, strict=True)}

    def row(self, weights: Mapping[str, float]) -> dict[str, Any]:
        """Return what ``metrics.jsonl`` holds of one measurement.

        Args:
            weights: of the terms that are active; the others are left out.
        """
        found = {
            name: (weights[name] * pull.norm, pull.cosine) for name, pull in self.pulls().items() if name in weights
        }
        whole = sum(norm for norm, _ in found.values())
        return {
            "progress": self.progress,
            "terms": {
                name: {"norm": finite(norm), "share": finite(norm / whole) if whole else None, "cosine": cosine}
                for name, (norm, cosine) in found.items()
            },
        }


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def moments(steps: int, epochs: int, terms: int) -> tuple[int, set[tuple[int, int]]]:
    """Return how many micro-batches a measurement takes, and at which (epoch, step from 0) one begins after the start.

    Args:
        steps: of an epoch. terms: of the objective, which determine what a measurement costs.
    """
    # in steps: a pass forward, and twice that for each term's way back, of which a step has one; 0.3 for the copies
    cost = (1 + 2 * terms) / 3 + 0.3
    count = max(1, min(MOST, int(LIMIT * steps * epochs / (3 * cost)), steps))
    epoch, step = divmod(steps * epochs // 10, steps)
    return count, {(1 + epoch, min(step, steps - count)), (epochs, steps - count)} - {(1, 0)}
