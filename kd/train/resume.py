"""Save checkpoints while training, and resume from the latest valid one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kd.runtime.console import print_line
from kd.runtime.signals import STEP_TIMEOUT, defer_signals, interruptible, received_signal
from kd.train.checkpoint import CheckpointFolder
from kd.train.state import TrainState

# steps after which several processes agree on whether to stop, which costs a third of a millisecond
STEPS_BETWEEN_SYNCS = 8
# An epoch ends with a checkpoint if the last one is older than this many times what it took to write. So writing takes
# at most a twentieth of the time, and where epochs are short, a kill loses twenty times the seconds of a write.
WRITES_APART = 20


class CheckpointManager:
    """Writes checkpoints of a training when they are due, and resumes from them.

    Args:
        checkpoints: None: no checkpoint is written. steps: per epoch.
        began: ``perf_counter`` at the start of the training.
    """

    def __init__(self, state: TrainState, checkpoints: CheckpointFolder | None, stage: str, steps: int, began: float):
        self.state, self.checkpoints, self.stage, self.steps = state, checkpoints, stage, steps
        self.mark = began  # state.seconds counts up to this time
        self.written = time.perf_counter()
        self.took = 0.0  # seconds of the last write
        self.whole = True  # no step is in progress
        self.kept = False  # whether the current position has a checkpoint

    def resume(self, seed: int) -> None:
        """Resume from the latest valid checkpoint that matches this training, if any."""
        world, checkpoints, passed = self.state.world, self.checkpoints, []
        while path := world.broadcast(checkpoints.latest(passed) if checkpoints and world.is_main else None):
            saved = checkpoints.read(path)
            if all(world.all_gather(saved is not None and self.state.matches(saved))):
                self.state.restore(saved, seed)
                self.kept = True
                print_line(f"{self.stage}: resuming from {self.where()}")
                return
            print_line(f"{self.stage}: checkpoint {path.name} belongs to another version of this training")
            passed.append(path)
        if passed:
            print_line(
                f"{self.stage}: starting over; the old checkpoints stay in {passed[0].parent / 'older'} until it ends"
            )
            if world.is_main:
                checkpoints.archive()

    @contextmanager
    def stop_on_interrupt(self) -> Iterator[None]:
        """Inside the block an interruption ends the training after a checkpoint."""
        with interruptible(STEP_TIMEOUT if self.state.world.size == 1 else 10 * STEP_TIMEOUT):
            try:
                yield
            except KeyboardInterrupt:
                # several processes may be at different steps
                if self.whole and self.checkpoints and self.state.world.size == 1:
                    if not self.kept:
                        self.write()
                    print_line(f"{self.stage}: stopped after {self.where()}; checkpoint saved")
                raise

    def on_step_end(self) -> None:
        """Write a checkpoint if one is due or a process received a signal; all processes decide together.

        Raises:
            KeyboardInterrupt: a process received a signal.
        """
        self.state.step += 1
        self.whole = True
        world = self.state.world
        if world.size > 1 and self.state.step % STEPS_BETWEEN_SYNCS and self.state.step != self.steps:
            return
        self._write_after(60 * self.checkpoints.minutes if self.checkpoints else math.inf)

    def on_epoch_end(self, row: dict[str, Any]) -> None:
        """Advance to the next epoch and write a checkpoint, if the last one is not too recent for what it costs.

        Raises:
            KeyboardInterrupt: a process received a signal.
        """
        state = self.state
        self.whole = self.kept = False
        state.rows.append(row)
        state.epoch, state.step, state.sums, state.rates, state.measured = state.epoch + 1, 0, None, [], []
        self.whole = True
        minutes = self.checkpoints.minutes if self.checkpoints else math.inf
        self._write_after(min(60 * minutes, WRITES_APART * self.took))

    def _write_after(self, seconds: float) -> None:
        """Write a checkpoint if the last one is older or a process received a signal; all processes decide together.

        Raises:
            KeyboardInterrupt: a process received a signal.
        """
        world, due = self.state.world, time.perf_counter() - self.written >= seconds
        if world.all_reduce_max(received_signal() is not None or due):
            self.write()
            if world.all_reduce_max(received_signal() is not None):
                raise KeyboardInterrupt

    def on_step_start(self) -> None:
        """Mark the state as incomplete until ``on_step_end``."""
        self.whole = self.kept = False

    def write(self) -> None:
        """Write a checkpoint; a signal takes effect after it."""
        with defer_signals():
            began = time.perf_counter()
            self.seconds()
            saved = self.state.state_dict() if self.checkpoints else None
            if saved:
                self.checkpoints.write(self.state.global_position(self.steps), saved)
            self.written, self.kept = time.perf_counter(), True
            self.took = self.written - began

    def seconds(self) -> float:
        """Return the duration of the training, including the parts before an interruption."""
        now = time.perf_counter()
        self.state.seconds, self.mark = self.state.seconds + now - self.mark, now
        return self.state.seconds

    def where(self) -> str:
        state = self.state
        return f"epoch {state.epoch}, step {state.step}" if state.step else f"the end of epoch {state.epoch - 1}"
