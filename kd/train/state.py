"""Training state: everything that changes during training, saved and restored bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kd.runtime.console import print_line
from kd.runtime.distributed import World
from kd.runtime.rng import random_states, restore_random_states
from kd.train.checkpoint import changed_tensors, hash_of

FORMAT = 1  # of a checkpoint; raise it when the contents change


class EmaState(Protocol):
    network: nn.Module
    steps: int


@dataclass
class TrainState:
    """A training between two steps.

    Views, order and schedules are functions of the position alone, so none of their state is saved.
    """

    learned: nn.Module  # all that has gradients: the network, and what the method adds
    optimizer: torch.optim.Optimizer
    averaged: EmaState | None
    world: World
    epoch: int = 1  # the current one
    step: int = 0  # finished steps of this epoch
    sums: Tensor | None = None  # [step, numbers], float64: results of this epoch's steps, on this process
    pending: list[Tensor] = field(default_factory=list)  # results of the last steps, still on the device
    rates: list[float] = field(default_factory=list)  # learning rates of the steps
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the log, one per epoch
    measured: list[dict[str, Any]] = field(default_factory=list)  # gradients of the terms in this epoch, see ``Meter``
    best: dict[str, Any] = field(default_factory=lambda: {"val_accuracy": -1.0})
    seconds: float = 0.0  # duration of the training so far
    random: dict[str, Any] | None = None  # its random states, while other trainings use the process's generators

    def global_position(self, steps: int) -> int:
        """Return a number that rises with every step and every end of an epoch of ``steps``."""
        return (self.epoch - 1) * (steps + 1) + self.step

    def record_step(self, rate: float, numbers: Tensor, new: bool) -> None:
        """Add the results of a micro-batch, weighted by its share; ``new``: it is the first of its step.

        The numbers stay on the device: reading one per step would take most of the time of a tiny student's step.
        """
        if new:
            self.pending.append(numbers)
            self.rates.append(rate)
        else:
            self.pending[-1] = self.pending[-1] + numbers

    def step_table(self) -> Tensor:
        """Return the results of this epoch's steps: [steps, numbers], float64, on the CPU."""
        if self.pending:
            table = torch.stack(self.pending).cpu().double()
            sums = table if self.sums is None else torch.cat([self.sums, table])
            self.sums, self.pending = sums, []  # at once: an interruption in between would count them twice
        return self.sums

    def state_dict(self) -> dict[str, Any] | None:
        """Return everything as tensors and plain values; of several processes only the main one gets it, others None.

        What differs between processes (random states, statistics that terms take of their own slices) is saved per
        process, the rest once.
        """
        tensors = compacted(self.learned.state_dict())
        common = self.world.broadcast(
            {name: hash_of(value) for name, value in tensors.items()} if self._several else None
        )
        own = {"random": self.random or random_states(self.device), "sums": self.step_table()}
        own["tensors"] = changed_tensors(tensors, common) if self._several else {}
        each = self.world.gather(own)
        if not self.world.is_main:
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
            "measured": self.measured,
            "seconds": self.seconds,
            "each": each,
        }

    def restore(self, state: dict[str, Any], seed: int) -> None:
        """Restore ``state``, which ``matches``.

        Args:
            seed: of the random states, if another number of processes saved it.
        """
        self.learned.load_state_dict(state["learned"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            weights, self.averaged.steps = state["averaged"]
            self.averaged.network.load_state_dict(weights)
        for name in ("epoch", "step", "rates", "rows", "best", "seconds"):
            setattr(self, name, state[name])
        self.measured = state.get("measured", [])  # a checkpoint of an earlier version has none
        each, rank = state["each"], self.world.rank
        if len(each) == self.world.size:
            self.sums = each[rank]["sums"]
            self.learned.load_state_dict(each[rank]["tensors"], strict=False)
            restore_random_states(each[rank]["random"], self.device)
        else:
            print_line(f"{len(each)} processes trained so far, {self.world.size} continue: dropout masks will differ")
            self.sums = torch.stack([one["sums"] for one in each]).mean(0) if self.step else None
            torch.manual_seed(seed + 1_000_003 * rank + self.epoch)

    def matches(self, state: dict[str, Any]) -> bool:
        """Whether ``state`` comes from such a training and from this version of the code."""
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
        return self.world.size > 1


def compacted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without views of larger tensors, of which ``torch.save`` and ``deepcopy`` take all.

    The weights of a student in a stack are such views. All other tensors are returned as they are.
    """
    small = {name: value for name, value in tensors.items() if value.untyped_storage().nbytes() > value.nbytes}
    for name, value in small.items():
        tensors[name] = value.clone()
    return tensors
