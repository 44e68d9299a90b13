"""Where a training stands: all that changes while a network is trained, out to a checkpoint and back, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kd.checkpoint import Checkpoints, differing, hash_of, random_states, set_random_states
from kd.interrupt import PATIENCE, asked, between_steps, unhurried
from kd.parallel import Ranks
from kd.progress import say

TOGETHER = 8  # steps after which several processes agree on whether to stop: it costs a third of a millisecond
FORMAT = 1  # of a checkpoint; raise it when other things stand in it


class Averaged(Protocol):
    network: nn.Module
    steps: int


@dataclass
class Standing:
    """A training between two steps.

    Views, order and schedules are functions of the place alone, so that nothing of them is kept.
    """

    learned: nn.Module  # all that is differentiated: the network, and what the method adds
    optimizer: torch.optim.Optimizer
    averaged: Averaged | None
    ranks: Ranks
    epoch: int = 1  # the one that is being walked
    step: int = 0  # steps of it that are behind
    sums: Tensor | None = None  # [step, numbers], float64: what the steps of this epoch came to, on this process
    fresh: list[Tensor] = field(default_factory=list)  # the same of the last steps, still on the device
    rates: list[float] = field(default_factory=list)  # learning rates of the steps
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the log, one an epoch
    best: dict[str, Any] = field(default_factory=lambda: {"val_accuracy": -1.0})
    seconds: float = 0.0  # that the training took up to here

    def place(self, steps: int) -> int:
        """A number that rises with every step and every end of an epoch of ``steps``."""
        return (self.epoch - 1) * (steps + 1) + self.step

    def add(self, rate: float, numbers: Tensor, new: bool) -> None:
        """Add what a piece of a batch came to, weighed by its share; ``new``: it is the first of its step.

        The numbers stay on the device: reading one at every step would be most of a tiny student's step.
        """
        if new:
            self.fresh.append(numbers)
            self.rates.append(rate)
        else:
            self.fresh[-1] = self.fresh[-1] + numbers

    def read(self) -> Tensor:
        """What the steps of this epoch came to, [steps, numbers], float64, on the CPU."""
        if self.fresh:
            table = torch.stack(self.fresh).cpu().double()
            sums = table if self.sums is None else torch.cat([self.sums, table])
            self.sums, self.fresh = sums, []  # in one go: an interruption in between would count them twice
        return self.sums

    def state(self) -> dict[str, Any] | None:
        """Everything, as tensors and plain values; None but to the first of several processes.

        What differs between processes (random states, statistics of terms that each takes of its own slices) is kept
        of each, what is common once.
        """
        tensors = self.learned.state_dict()
        common = self.ranks.tell({name: hash_of(value) for name, value in tensors.items()} if self._several else None)
        own = {"random": random_states(self.device), "sums": self.read()}
        own["tensors"] = differing(tensors, common) if self._several else {}
        each = self.ranks.collect(own)
        if not self.ranks.first:
            return None
        return {
            "format": FORMAT,
            "epoch": self.epoch,
            "step": self.step,
            "learned": tensors,
            "optimizer": self.optimizer.state_dict(),
            "averaged": [self.averaged.network.state_dict(), self.averaged.steps] if self.averaged else None,
            "rates": self.rates,
            "rows": self.rows,
            "best": self.best,
            "seconds": self.seconds,
            "each": each,
        }

    def restore(self, state: dict[str, Any], seed: int) -> None:
        """Go to where ``state`` was taken, which ``fits``.

        Args:
            seed: of the random states, where it was taken with another number of processes.
        """
        self.learned.load_state_dict(state["learned"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            weights, self.averaged.steps = state["averaged"]
            self.averaged.network.load_state_dict(weights)
        for name in ("epoch", "step", "rates", "rows", "best", "seconds"):
            setattr(self, name, state[name])
        each, rank = state["each"], self.ranks.rank
        if len(each) == self.ranks.size:
            self.sums = each[rank]["sums"]
            self.learned.load_state_dict(each[rank]["tensors"], strict=False)
            set_random_states(each[rank]["random"], self.device)
        else:
            say(f"{len(each)} processes trained up to here and {self.ranks.size} go on: dropout will be another")
            self.sums = torch.stack([one["sums"] for one in each]).mean(0) if self.step else None
            torch.manual_seed(seed + 1_000_003 * rank + self.epoch)

    def fits(self, state: dict[str, Any]) -> bool:
        """Whether ``state`` is of a training like this one, and not of an older version of the code."""
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            return False
        own, theirs = (
            {name: value.shape for name, value in x.items()} for x in (self.learned.state_dict(), state["learned"])
        )
        mine, saved = (
            [len(group["params"]) for group in x["param_groups"]]
            for x in (self.optimizer.state_dict(), state["optimizer"])
        )
        return own == theirs and mine == saved and (self.averaged is None) == (state["averaged"] is None)

    @property
    def device(self) -> torch.device:
        return next(self.learned.parameters()).device

    @property
    def _several(self) -> bool:
        return self.ranks.size > 1


class Keeper:
    """Writes checkpoints of a training when they are due, and goes on from them.

    Args:
        checkpoints: None keeps nothing. steps: of an epoch. began: when the training was called, of ``perf_counter``.
    """

    def __init__(self, stand: Standing, checkpoints: Checkpoints | None, stage: str, steps: int, began: float):
        self.stand, self.checkpoints, self.stage, self.steps = stand, checkpoints, stage, steps
        self.mark = began  # up to where stand.seconds counts
        self.written = time.perf_counter()
        self.whole = True  # nothing is half changed: no step is on its way
        self.kept = False  # this very place

    def go_on(self, seed: int) -> None:
        """Go to the newest checkpoint that is whole and fits, if there is one."""
        ranks, checkpoints, passed = self.stand.ranks, self.checkpoints, []
        while path := ranks.tell(checkpoints.newest(passed) if checkpoints and ranks.first else None):
            state = checkpoints.read(path)
            if all(ranks.gather(state is not None and self.stand.fits(state))):
                self.stand.restore(state, seed)
                self.kept = True
                say(f"{self.stage} goes on from {self.where()}")
                return
            say(f"{self.stage}: {path.name} is of another version of this training")
            passed.append(path)
        if passed:
            say(f"{self.stage} begins anew; what was there is kept in {passed[0].parent / 'older'} until it ends")
            if ranks.first:
                checkpoints.set_aside()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """For the time of the training: an interruption ends it behind a checkpoint."""
        with between_steps(PATIENCE if self.stand.ranks.size == 1 else 10 * PATIENCE):
            try:
                yield
            except KeyboardInterrupt:
                if self.whole and self.checkpoints and self.stand.ranks.size == 1:  # of several, each may be elsewhere
                    if not self.kept:
                        self.write()
                    say(f"{self.stage} stops behind {self.where()}, where a checkpoint is")
                raise

    def step_ends(self) -> None:
        """Write a checkpoint when the minutes are over or somebody asks to stop; of several processes, all do.

        Raises:
            KeyboardInterrupt: asked to stop.
        """
        self.stand.step += 1
        self.whole = True
        ranks = self.stand.ranks
        if ranks.size > 1 and self.stand.step % TOGETHER and self.stand.step != self.steps:
            return
        due = self.checkpoints and time.perf_counter() - self.written >= 60 * self.checkpoints.minutes
        if ranks.most(asked() is not None or bool(due)):
            self.write()
            if ranks.most(asked() is not None):
                raise KeyboardInterrupt

    def epoch_ends(self, row: dict[str, Any]) -> None:
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
        if stand.ranks.most(asked() is not None):
            raise KeyboardInterrupt

    def step_begins(self) -> None:
        """From here to ``step_ends`` things are half changed."""
        self.whole = self.kept = False

    def write(self) -> None:
        """Write a checkpoint; a signal waits until it is there."""
        with unhurried():
            self.seconds()
            state = self.stand.state() if self.checkpoints else None
            if state:
                self.checkpoints.write(self.stand.place(self.steps), state)
            self.written, self.kept = time.perf_counter(), True

    def seconds(self) -> float:
        """How long the training has taken, the parts of it before an interruption too."""
        now = time.perf_counter()
        self.stand.seconds, self.mark = self.stand.seconds + now - self.mark, now
        return self.stand.seconds

    def where(self) -> str:
        stand = self.stand
        return f"epoch {stand.epoch}, step {stand.step}" if stand.step else f"the end of epoch {stand.epoch - 1}"
