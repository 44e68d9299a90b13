"""``hydra/launcher=one_pass``: the students of a multirun train together, then its jobs run one after another.

The launcher (``hydra_plugins/kd``) calls ``train_jobs`` before Hydra's own launcher starts the jobs. It makes the plan
of every job and fills the store with their students in as few passes as possible (``kd.pipeline.together``). Each job
then finds its student in the store, and its folder, metrics, report and W&B run are those of a job that ran alone. A
job whose plan cannot be made is left to itself: it reports its error as in any multirun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from kd.config.composed import CHOSEN_GROUPS, checked

if TYPE_CHECKING:
    from kd.pipeline.plan import RunPlan

Load = Callable[[DictConfig, list[str]], DictConfig]  # composes the config of a job from that of the multirun


def train_jobs(
    config: DictConfig, load: Load, job_overrides: Sequence[Sequence[str]], most: int | None, always: bool
) -> None:
    """Train the students of several jobs that are not in the store.

    Args:
        config: of the multirun. load: composes that of a job. job_overrides: of each job.
        most, always: "students" and "always" of ``kd.train.together.fit_together``.
    """
    from kd.pipeline.together import train_together
    from kd.runtime.user_warnings import share_shown, show_plainly

    show_plainly()
    share_shown(Path(config.hydra.sweep.dir))
    train_together(list(plans(config, load, job_overrides)), most, always)


def plans(config: DictConfig, load: Load, job_overrides: Sequence[Sequence[str]]) -> Iterator[RunPlan]:
    """Yield the plan of every job that is not finished and whose settings are right."""
    from kd.pipeline.execute import is_finished, make_plan
    from kd.pipeline.together import Shared

    shared = Shared()
    for overrides in job_overrides:
        try:
            cfg, _, choices = checked(load(config, list(overrides)))
            own = {group: choices[group] for group in (*CHOSEN_GROUPS, "experiment") if group in choices}
            plan = make_plan(cfg, own)
        except Exception:  # the job itself reports it
            continue
        if not is_finished(plan):
            yield shared.slim(plan)


def register_launcher(config: DictConfig) -> None:
    """Make Hydra know the launcher if the multirun has chosen it.

    Hydra's own search for plugins misses a package that pip installed as editable.
    """
    if config.hydra.launcher._target_.startswith("hydra_plugins.kd."):
        from hydra_plugins.kd import OnePassLauncher

        Plugins.instance().register(OnePassLauncher)
