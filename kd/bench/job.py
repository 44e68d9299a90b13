"""What every job of the benchmark can do."""

from __future__ import annotations

import gc
import time
from abc import ABC, abstractmethod

from kd.bench.parts import Parts
from kd.bench.setting import Setup
from kd.bench.torch_state import own_torch_state


class Job(ABC):
    """One program that trains the student of a setup for its epochs, each with a validation at its end.

    Args:
        plain: torch's settings when the benchmark started, see ``own_torch_state``.
    """

    name: str
    precision: str  # in which teacher and student train
    students = 1  # that one call trains
    is_watched = True  # whether its time can be divided into parts

    def __init__(self, setup: Setup, plain: dict[str, object]):
        self.setup, self.plain = setup, plain
        self.remarks: list[str] = []  # of the last call, for the report
        self.apart_seconds = 0.0  # of the last call: done once however many epochs it trains, and reported apart

    def prepare(self) -> dict[str, float]:
        """Do once what comes before the first epoch; return the seconds of what is worth a report."""
        return {}

    @abstractmethod
    def refresh(self) -> None:
        """Make new copies of the networks."""

    @abstractmethod
    def train(self) -> None:
        """Train the copies: all that a call of the program does."""

    @abstractmethod
    def watch(self, parts: Parts) -> None:
        """Put stopwatches on the copies; called where ``is_watched``."""

    @property
    def uses_teacher(self) -> bool:
        """Whether the teacher runs in every step."""
        return True

    @property
    def images(self) -> int:
        """Training images of an epoch: every job leaves out an incomplete last batch."""
        count, batch = self.setup.setting.images, min(self.setup.setting.batch_size, self.setup.setting.images)
        return count // batch * batch

    def timed(self) -> float:
        """Train once; return the seconds of an epoch: those of the call but ``apart_seconds``, by its epochs."""
        synchronize = self.setup.plan.device.synchronize
        with own_torch_state(self.plain):
            self.refresh()
            gc.collect()
            synchronize()
            began = time.perf_counter()
            self.train()
            synchronize()
            return (time.perf_counter() - began - self.apart_seconds) / self.setup.setting.epochs

    def seconds_by_part(self) -> dict[str, float]:
        """Train once under stopwatches; return the seconds of an epoch by part."""
        parts = Parts(self.setup.plan.device.synchronize)
        with own_torch_state(self.plain):
            self.refresh()
            self.watch(parts)
            with parts.running():
                self.train()
        return {part: seconds / self.setup.setting.epochs for part, seconds in parts.seconds.items()}
