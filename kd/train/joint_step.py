"""One optimizer step for several students.

A fused optimizer updates any number of tensors in about the time that it takes to start, and on a GPU starting K
optimizers would take as long as K small students compute. Each student keeps its own optimizer and its state; this step
lists the tensors of all, in groups of equal settings. The result is the same to the bit, because these optimizers treat
every element by itself.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from kd.train.training import Training

BY_ELEMENT = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)  # others may take norms, or keep state of their own


class JointStep:
    """Steps the optimizers of several trainings at once: those of one kind in ``BY_ELEMENT`` together, others alone."""

    def __init__(self, trainings: Sequence[Training]):
        kinds: dict[Any, list[Training]] = {}
        for training in trainings:
            kind = type(training.optimizer)
            kinds.setdefault(kind if kind in BY_ELEMENT else training, []).append(training)
        self.alone = [members[0] for members in kinds.values() if len(members) == 1]
        self.joint = [_Joint(members) for members in kinds.values() if len(members) > 1]

    def step(self) -> None:
        for training in self.alone:
            training.optimizer.step()
        for joint in self.joint:
            joint.step()


class _Joint:
    """Optimizers of one kind, as one that shares their tensors and their state."""

    def __init__(self, trainings: Sequence[Training]):
        self.optimizer = copy.copy(trainings[0].optimizer)
        self.optimizer.state = defaultdict(dict)
        self.owner = {p: training.optimizer for training in trainings for p in training.train_step.parameters()}
        groups: dict[str, dict[str, Any]] = {}
        self.leads: list[tuple[dict[str, Any], dict[str, Any]]] = []  # a joint group, and one whose rate it takes
        for training in trainings:
            for group in training.optimizer.param_groups:
                settings = {name: value for name, value in group.items() if name not in ("params", "lr")}
                name = repr((sorted(settings.items()), training.recipe.lr, training.recipe.warmup))
                if name not in groups:
                    groups[name] = {**group, "params": []}
                    self.leads.append((groups[name], group))
                groups[name]["params"].extend(group["params"])
        self.optimizer.param_groups = list(groups.values())

    def step(self) -> None:
        for group, lead in self.leads:
            group["lr"] = lead["lr"]
        state = self.optimizer.state
        for p, optimizer in self.owner.items():
            if p.grad is not None and p not in state:
                state[p] = optimizer.state[p]  # the same dict, which the step fills
        self.optimizer.step()
