"""``RunPlan``: all that a run needs. ``RunResult``: what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from kd.build import ModelBuilder
from kd.data.dataset import ImageDataset
from kd.pipeline.keys import Keys, run_name
from kd.pipeline.stage import StageSpec
from kd.runtime.device import Device
from kd.runtime.distributed import World
from kd.runtime.timer import Timer
from kd.store.store import Store, digest


@dataclass(frozen=True)
class RunPlan:
    """All that a run needs. Nothing is trained yet, but every object that a wrong setting could break exists."""

    settings: dict[str, Any]  # resolved
    config_yaml: str  # the settings as text
    choices: Mapping[str, str]  # the option chosen in each group
    keys: Keys
    store: Store
    device: Device
    world: World  # the processes that share the run
    dataset: ImageDataset
    stages: Mapping[
        str, StageSpec
    ]  # by role: teacher (or teacher_1, ...; if read), baseline (if wanted), assistant_1, student
    builder: ModelBuilder  # makes more networks: a student's peers, an ensemble of the teachers
    unused_params: int  # parameters of the teacher's published class that no forward pass touches
    clock: Timer

    @property
    def key(self) -> str:
        return digest(self.keys.run)

    @property
    def name(self) -> str:
        return run_name(self.settings, self.choices, self.key)

    @property
    def teachers(self) -> list[StageSpec]:
        """The teacher, or all teachers of an ensemble; [] if no term reads one."""
        return [spec for role, spec in self.stages.items() if role.startswith("teacher")]

    @property
    def taught(self) -> list[StageSpec]:
        """The networks that the method trains, in this order: assistants and student."""
        return [spec for spec in self.stages.values() if spec.has_method]

    def initial_teacher(self, spec: StageSpec) -> nn.Module | None:
        """Return the untrained network that will teach ``spec``; None without a teacher."""
        if spec.taught_by is None:
            return None
        if spec.taught_by != "teacher":
            return self.stages[spec.taught_by].network
        return self.builder.ensemble([teacher.network for teacher in self.teachers])


class RunResult(NamedTuple):
    """The result of a run."""

    result: dict[str, Any]  # the content of result.json
    folder: Path
    reused: bool  # an earlier command made it
    hint: str = ""  # how to view it
