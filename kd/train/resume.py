"""Save checkpoints while training, and resume from the latest valid one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kd.runtime.console import print_line
from kd.runtime.signals import PATIENCE, defer_signals, interruptible, received_signal
from kd.train.checkpoint import CheckpointFolder
from kd.train.state import TrainState

STEPS_BETWEEN_SYNCS = (
    8  # steps after which several processes agree on whether to stop: it costs a third of a millisecond
)


class CheckpointManager:
    """Writes checkpoints of a training when they are due, and goes on from them.

    Args:
        checkpoints: None keeps nothing. steps: of an epoch. began: when the training was called, of ``perf_counter``.
    """

    def __init__(self, stand: TrainState, checkpoints: CheckpointFolder | None, stage: str, steps: int, began: float):
        self.stand, self.checkpoints, self.stage, self.steps = stand, checkpoints, stage, steps
        self.mark = began  # up to where stand.seconds counts
        self.written = time.perf_counter()
        self.whole = True  # nothing is half changed: no step is on its way
        self.kept = False  # this very place

    def resume(self, seed: int) -> None:
        """Go to the newest checkpoint that is whole and fits, if there is one."""
        ranks, checkpoints, passed = self.stand.ranks, self.checkpoints, []
        while path := ranks.broadcast(checkpoints.latest(passed) if checkpoints and ranks.is_main else None):
            state = checkpoints.read(path)
            if all(ranks.all_gather(state is not None and self.stand.matches(state))):
                self.stand.restore(state, seed)
                self.kept = True
                print_line(f"{self.stage} goes on from {self.where()}")
                return
            print_line(f"{self.stage}: {path.name} is of another version of this training")
            passed.append(path)
        if passed:
            print_line(
                f"{self.stage} begins anew; what was there is kept in {passed[0].parent / 'older'} until it ends"
            )
            if ranks.is_main:
                checkpoints.archive()

    @contextmanager
    def stop_on_interrupt(self) -> Iterator[None]:
        """For the time of the training: an interruption ends it behind a checkpoint."""
        with interruptible(PATIENCE if self.stand.ranks.size == 1 else 10 * PATIENCE):
            try:
                yield
            except KeyboardInterrupt:
                if self.whole and self.checkpoints and self.stand.ranks.size == 1:  # of several, each may be elsewhere
                    if not self.kept:
                        self.write()
                    print_line(f"{self.stage} stops behind {self.where()}, where a checkpoint is")
                raise

    def on_step_end(self) -> None:
        """Write a checkpoint when the minutes are over or somebody asks to stop; of several processes, all do.

        Raises:
            KeyboardInterrupt: asked to stop.
        """
        self.stand.step += 1
        self.whole = True
        ranks = self.stand.ranks
        if ranks.size > 1 and self.stand.step % STEPS_BETWEEN_SYNCS and self.stand.step != self.steps:
            return
        due = self.checkpoints and time.perf_counter() - self.written >= 60 * self.checkpoints.minutes
        if ranks.all_reduce_max(received_signal() is not None or bool(due)):
            self.write()
            if ranks.all_reduce_max(received_signal() is not None):
                raise KeyboardInterrupt

    def on_epoch_end(self, row: dict[str, Any]) -> None:
        """Go to the beginning of the next epoch, and write a checkpoint.

        Raises:
            KeyboardInterrupt: asked to stop.
        """
        stand = self.stand
        self.whole = self.kept = False
        stand.rows.append(row)
        stand.epoch, stand.step, stand.sums, stand.rates = stand.epoch + 1, 0, None, []
        self.whole = True
        self.write()
        if stand.ranks.all_reduce_max(received_signal() is not None):
            raise KeyboardInterrupt

    def on_step_start(self) -> None:
        """From here to ``step_ends`` things are half changed."""
        self.whole = self.kept = False

    def write(self) -> None:
        """Write a checkpoint; a signal waits until it is there."""
        with defer_signals():
            self.seconds()
            state = self.stand.state() if self.checkpoints else None
            if state:
                self.checkpoints.write(self.stand.global_position(self.steps), state)
            self.written, self.kept = time.perf_counter(), True

    def seconds(self) -> float:
        """How long the training has taken, the parts of it before an interruption too."""
        now = time.perf_counter()
        self.stand.seconds, self.mark = self.stand.seconds + now - self.mark, now
        return self.stand.seconds

    def where(self) -> str:
        stand = self.stand
        return f"epoch {stand.epoch}, step {stand.step}" if stand.step else f"the end of epoch {stand.epoch - 1}"
