"""K students in one pass by this framework: ``kd.train.together.fit_together``, as the launcher one_pass calls it.

The students differ in temperature and α, like the cells of a sweep. They read cached logits, as such a sweep does. A
pass first tries which way is faster, once for all its epochs; its time is reported apart, not as time of an epoch.
"""

from __future__ import annotations

import copy
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from kd.bench.ours import Ours
from kd.bench.setting import Setup
from kd.build import build_objective
from kd.config.composed import compose_checked
from kd.train import together
from kd.train.checkpoint import CheckpointFolder
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
        self.remarks, self.apart_seconds = [], 0.0
        quiet = redirect_stdout(io.StringIO())
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, quiet, self.trial_timed():
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
            for result in together.fit_together(trainings, say=self.say):
                if isinstance(result, Exception):
                    raise result

    @contextmanager
    def trial_timed(self) -> Iterator[None]:
        """Count the seconds in which the pass tries stacks as apart."""
        choose, synchronize = together._Pass._choose, self.own_device.synchronize

        def timed(*args: object) -> None:
            synchronize()
            began = time.perf_counter()
            choose(*args)
            synchronize()
            self.apart_seconds += time.perf_counter() - began

        together._Pass._choose = timed
        try:
            yield
        finally:
            together._Pass._choose = choose

    def say(self, line: str) -> None:
        if line.startswith("one pass:"):  # which way is faster, and by how much
            self.remarks.append(line)
