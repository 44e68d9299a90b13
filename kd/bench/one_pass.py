"""K students in one pass by this framework: ``kd.train.together.fit_together``, as the launcher one_pass calls it.

The students differ in temperature and α, like the cells of a sweep. They read cached logits, as such a sweep does.
"""

from __future__ import annotations

import copy
import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from kd.bench.ours import Ours
from kd.bench.parts import Parts
from kd.bench.setting import Setup
from kd.build import build_objective
from kd.config.composed import compose_checked
from kd.train.checkpoint import CheckpointFolder
from kd.train.together import fit_together
from kd.train.training import Training

TEMPERATURES = (1, 2, 4, 8)


class OnePass(Ours):
    """As many students as the setting says."""

    is_watched = False  # a stack calls functions made of the networks, which no stopwatch on a network sees

    def __init__(self, setup: Setup, plain: dict[str, object], wanted: str = "auto"):
        super().__init__(setup, plain, wanted, "cached")
        self.name = "one_pass" if wanted == "auto" else f"one_pass {wanted}"
        self.students = setup.setting.students
        self.objectives = []
        for number in range(self.students):
            row, column = divmod(number, len(TEMPERATURES))
            own = f"kd.temperature={TEMPERATURES[column]}", f"kd.alpha={(row + 1) / (self.students + 1):.3f}"
            cfg, _ = compose_checked(setup.setting.arguments(*own))
            self.objectives.append(build_objective(cfg.kd))

    def refresh(self) -> None:
        super().refresh()
        self.networks = [copy.deepcopy(self.setup.student) for _ in self.objectives]
        self.own_objectives = copy.deepcopy(self.objectives)

    def train(self) -> None:
        self.remarks = []
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, redirect_stdout(io.StringIO()):
            trainings = [
                Training(
                    network,
                    objective,
                    self.own_loader,
                    self.recipe,
                    self.own_device,
                    stage="student",
                    teacher=self.teacher,
                    checkpoints=CheckpointFolder(Path(folder) / str(number)),
                    log=self.log,
                    together=True,
                )
                for number, (network, objective) in enumerate(zip(self.networks, self.own_objectives, strict=True))
            ]
            for result in fit_together(trainings, say=self.say):
                if isinstance(result, Exception):
                    raise result

    def say(self, line: str) -> None:
        if line.startswith("one pass:"):  # which way is faster, and by how much
            self.remarks.append(line)

    def watch(self, parts: Parts) -> None:
        raise NotImplementedError("see is_watched")
