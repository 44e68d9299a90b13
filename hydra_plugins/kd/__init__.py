"""``hydra/launcher=one_pass``. Hydra takes launchers from the package ``hydra_plugins`` alone; the work is kd's.

This file is read at the start of every command, so it imports nothing of kd.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, setup_globals

CHOOSE = ("measured", "always")


class OnePassLauncher(BasicLauncher):
    """Hydra's launcher of jobs in this process, after their students have trained together.

    Args:
        students: students of a stack at most; "auto": as many as memory holds.
        choose: "measured" takes the faster of a stacked step and the same steps in turn; "always" stacks untimed.
    """

    def __init__(self, students: int | str = "auto", choose: str = "measured"):
        super().__init__()
        if choose not in CHOOSE:
            raise ValueError(f"hydra.launcher.choose must be {' or '.join(CHOOSE)}, got {choose!r}")
        if students != "auto" and not (type(students) is int and students >= 1):
            raise ValueError(f"hydra.launcher.students must be auto or a number of 1 or more, got {students!r}")
        self.students, self.choose = students, choose

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        if len(job_overrides) > 1:
            from kd.sweep.one_pass import train_jobs

            load = self.hydra_context.config_loader.load_sweep_config
            most = None if self.students == "auto" else self.students
            train_jobs(self.config, load, job_overrides, most, self.choose == "always")
        return super().launch(job_overrides, initial_job_idx)
