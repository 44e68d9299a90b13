"""``hydra/launcher=one_pass``: the students of a multirun train together, then its jobs run one after another.

The launcher (``hydra_plugins/kd``) calls ``train_jobs`` before Hydra's own launcher starts the jobs. It makes the plan
of every job and fills the store with their students in as few passes as possible (``kd.pipeline.together``). Each job
then finds its student in the store, and its folder, metrics, report and W&B run are those of a job that ran alone. A
job whose plan cannot be made is left to itself: it reports its error as in any multirun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from kd.config.composed import CHOSEN_GROUPS, checked, resolved
from kd.store.store import digest
from kd.sweep.naming import name_group

if TYPE_CHECKING:
    from kd.pipeline.plan import RunPlan

_made: dict[str, RunPlan] = {}  # by ``_name``: plans that the jobs of this process will take
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

    _made.clear()
    show_plainly()
    share_shown(Path(config.hydra.sweep.dir))
    train_together(list(plans(config, load, job_overrides)), most, always)


def plans(config: DictConfig, load: Load, job_overrides: Sequence[Sequence[str]]) -> Iterator[RunPlan]:
    """Yield the plan of every job that is not finished and whose settings are right; keep all plans for the jobs.

    The threads of a process cannot change between two students, so jobs with other threads than the first are left out.
    """
    from kd.pipeline.execute import is_finished, make_plan
    from kd.pipeline.together import Shared

    shared, threads = Shared(), set()
    for overrides in job_overrides:
        try:
            cfg, settings, choices = checked(load(config, list(overrides)))
            threads.add(settings["train"]["threads"])
            if len(threads) > 1:
                return
            name_group(cfg, Path(config.hydra.sweep.dir))
            own = {group: choices[group] for group in (*CHOSEN_GROUPS, "experiment") if group in choices}
            plan = shared.slim(make_plan(cfg, own))
        except Exception:  # the job itself reports it
            continue
        _made[_name(cfg, own)] = plan
        if not is_finished(plan):
            yield plan


def take_plan(cfg: DictConfig, choices: Mapping[str, str]) -> RunPlan | None:
    """Return the plan of a job if ``plans`` has made it; a second call returns None."""
    plan = _made.pop(_name(cfg, choices), None) if _made else None
    if plan is None:
        return None
    from kd.pipeline.together import with_own_teacher

    return with_own_teacher(plan)


def _name(cfg: DictConfig, choices: Mapping[str, str]) -> str:
    return digest({"settings": resolved(cfg), "choices": dict(choices)})


def register_launcher(config: DictConfig) -> None:
    """Make Hydra know the launcher if the multirun has chosen it.

    Hydra's own search for plugins misses a package that pip installed as editable.
    """
    if config.hydra.launcher._target_.startswith("hydra_plugins.kd."):
        from hydra_plugins.kd import OnePassLauncher

        Plugins.instance().register(OnePassLauncher)
