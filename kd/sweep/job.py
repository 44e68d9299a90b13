"""One job of a multirun: a run that writes its outcome to the sweep's ledger."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kd.config.keys import key_of
from kd.config.search_objective import metric_values, needs_latency
from kd.records.ledger import is_recorded, job_entry, read_plan, why_refused
from kd.records.run_folder import is_calm
from kd.runtime.console import slow_down
from kd.runtime.errors import explain_os_error
from kd.runtime.process import configure_process
from kd.runtime.signals import SWEEP_PID_VARIABLE, exit_with_parent
from kd.runtime.user_warnings import share_shown, show_plainly, warn_user
from kd.runtime.values import format_override
from kd.sweep import one_pass

if TYPE_CHECKING:
    from kd.pipeline.plan import RunResult

HEARTBEAT = 30.0  # seconds between the progress lines of a job


def run_sweep_job(cfg: DictConfig, choices: Mapping[str, str], command: str) -> float | tuple[float, ...] | None:
    """Execute one job and write its outcome to the ledger; see ``kd/sweep/callback.py``.

    Returns:
        The values that a search optimises; None in a grid.
    """
    configure_process()  # again, for the worker of a launcher
    job = HydraConfig.get()
    folder = Path(job.sweep.dir)
    plan = read_plan(folder)
    is_search = plan["cells"] is None
    slow_down(HEARTBEAT)
    show_plainly()  # again, for the worker of a launcher
    share_shown(folder)
    exit_with_parent(int(os.environ.get(SWEEP_PID_VARIABLE, 0)))  # the worker of a launcher on this machine
    swept = [override for override in job.overrides.task if key_of(override) in plan["swept"]]
    if not is_search and why_refused(swept, plan.get("refused", ())):
        return None
    try:
        with job_entry(folder, swept) as entry:
            # these import torch, which takes seconds: the ledger already shows the job
            from kd.pipeline.execute import make_plan, run
            from kd.pipeline.preflight import MethodRefused

            try:
                run_plan = one_pass.take_plan(cfg, choices) or make_plan(cfg, choices)
            except MethodRefused as error:
                entry.refuse(str(error))
                if is_search:
                    raise
                return None
            outcome = run(cfg, choices, None, command, run_plan)
            entry.finish(outcome.folder, outcome.result, outcome.reused)
            return objective_values(outcome, cfg) if is_search else None
    except Exception as error:
        if is_search:  # the sweeper decides what to do about a failed job
            raise
        if not is_recorded(folder, swept, error):
            print(
                f"kd: {' '.join(map(format_override, swept))}: {explain_os_error(error, cfg.outputs)}", file=sys.stderr
            )
        return None  # the ledger has error and traceback; the other jobs continue, and the exit code is 1 at the end


def objective_values(outcome: RunResult, cfg: DictConfig) -> float | tuple[float, ...]:
    """Return the values of ``optimized_metric`` in the result of a run; warn of latencies from a busy machine."""
    optimized_metric = OmegaConf.to_container(cfg, resolve=True)["optimized_metric"]
    if not is_calm(outcome.result["student"]) and (distorted := needs_latency(optimized_metric)):
        warn_user(
            f"the search optimises {' and '.join(distorted)}, measured while another program used the machine: "
            "the value is unreliable"
        )
    return metric_values(outcome.result, optimized_metric)
