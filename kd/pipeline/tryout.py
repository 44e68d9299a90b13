"""Try the methods of many jobs before the first of them runs. What the jobs share is made once.

A job tries its method itself (``prepare``). For a sweep over all methods that is too late: it should say what it leaves
out before it trains for hours, and it need not read the data and make a teacher for each method to find out.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kd.build import build_objective, name_setting
from kd.config.combine import expand_combination
from kd.config.composed import resolved
from kd.pipeline.plan import RunPlan
from kd.pipeline.preflight import check_method
from kd.pipeline.prepare import draw_plan, try_methods
from kd.store.store import digest

UNSHARED = ("kd", "seed", "outputs", "tracking", "report", "sweep", "baseline", "optimized_metric")  # settings


class Tryout:
    """Tries methods; keeps the plans, without any method tried, that several jobs have in common."""

    def __init__(self) -> None:
        self.plans: dict[str, RunPlan | Exception] = {}  # by the settings of ``shared_by``

    def try_method(self, cfg: Any, choices: Mapping[str, str]) -> None:
        """Try the method of a job on the CPU, with the networks that the job would train and the data it would read.

        Args:
            cfg: as Hydra composed it, without Hydra's part. choices: the option chosen in each group.

        Raises:
            MethodRefused: the method cannot work with them. ValueError, OSError: as of ``prepare.draw_plan``.
        """
        cfg = copy.deepcopy(cfg)
        cfg.train.device, cfg.train.precision = "cpu", "float32"  # the jobs of this machine need its accelerator
        cfg, choices = expand_combination(cfg, choices)
        settings = resolved(cfg)
        with name_setting(cfg):
            objective = build_objective(cfg.kd)
        check_method(cfg, settings, objective, choices["kd"])  # here, since a plan, or its error, serves other methods
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the job warns, if it runs
            plan = self._plan(cfg, choices, digest(shared_by(settings, objective)))
            own = {spec.role: replace(spec, objective=build_objective(cfg.kd)) for spec in plan.taught}
            try_methods(replace(plan, stages={**plan.stages, **own}))

    def _plan(self, cfg: Any, choices: Mapping[str, str], key: str) -> RunPlan:
        if key not in self.plans:
            try:
                self.plans[key] = draw_plan(cfg, choices)
            except (ValueError, OSError) as error:  # a download that failed is not tried again for each method
                self.plans[key] = error
        if isinstance(plan := self.plans[key], Exception):
            raise plan
        return plan


def shared_by(settings: Mapping[str, Any], objective: Any) -> dict[str, Any]:
    """Return the settings that two jobs must share so that one plan serves both.

    Args:
        settings: resolved. objective: of the method, of which a plan depends on what is asked of it.
    """
    shared = {name: value for name, value in settings.items() if name not in UNSHARED}
    shared |= {"reads a teacher": bool(objective.needs), "views": objective.views}
    shared |= {"sampler": objective.sampler, "second_augment": objective.second_augment}
    return shared | {"assistants": settings["kd"].get("assistants")}
