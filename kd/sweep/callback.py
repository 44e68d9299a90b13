"""The callback of a multirun: it checks the jobs, names the sweep, follows its ledger and makes the report.

Hydra 1.3 skips ``on_multirun_end`` after a failed job, and shows only the first failure. So each job writes its outcome
to a ledger of files (``kd/records/ledger.py``), this process watches the ledger under any launcher, and ``finish`` is
called both by the callback and when the command ends.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from kd.config.callback import refusing
from kd.config.checks import check_length, check_outputs
from kd.config.command_line import as_value, expand_homes
from kd.config.errors import restore_hydra_errors
from kd.config.keys import FROM_ENVIRONMENT, key_of
from kd.config.wandb_names import as_group
from kd.records.ledger import FINISHED, begin_sweep, read_sweep
from kd.report.sweep.test_sets import is_of_images
from kd.runtime import user_warnings
from kd.runtime.signals import SWEEP_PID_VARIABLE
from kd.runtime.values import format_override
from kd.store.store import digest
from kd.sweep.cores import share_cores
from kd.sweep.monitor import SweepMonitor, progress_of
from kd.sweep.naming import NOT_IN_NAMES, command_of, grid_cells, sweep_name
from kd.sweep.one_pass import register_launcher
from kd.sweep.refusals import check_jobs_of, launch_only, show_refused, without_helpers
from kd.tracking.wandb_environment import find_agent

# as in kd/run.py, which the workers of a launcher do not import
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")
_monitor: SweepMonitor | None = None  # of the multirun that this process has started
_failed = 0  # how many of its jobs failed or are missing, once it is over


class SweepCallback(Callback):
    """``hydra.callbacks.sweep``: checks the jobs of a multirun, names it, begins its ledger, follows it, reports it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        restore_hydra_errors()
        with refusing("the sweep cannot begin: "):
            expand_homes(config)
            _start(config)
        register_launcher(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        finish()


def _start(config: DictConfig) -> None:
    """Check the sweep, name it, fix its folder, begin its ledger and follow it."""
    global _monitor
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # an experiment may set MULTIRUN without -m
        text = "kd: torchrun runs one run; start each cell of a multirun with its own torchrun"
        raise SystemExit(text if os.environ.get("RANK", "0") == "0" else 1)
    if find_agent() and config.tracking.mode != "disabled":
        raise ValueError(
            "a wandb agent (WANDB_SWEEP_ID in the environment) starts one run at a time: leave out -m and the values, "
            "or use tracking=disabled"
        )
    for part in (
        config.hydra.sweeper,
        config.hydra.launcher,
    ):  # refuses a wrong value there before Hydra makes a folder
        OmegaConf.to_container(part, resolve=True)
    task = OmegaConf.to_container(config.hydra.overrides.task)  # as typed, interpolations unresolved
    given = [*config.hydra.overrides.hydra, *task]
    params = config.hydra.sweeper.get("params") or {}
    lines = [f"{name}={value}" for name, value in params.items()] + task
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = list({o.get_key_element(): o for o in parser.parse_overrides(lines)}.values())
    is_search = "BasicSweeper" not in config.hydra.sweeper._target_
    swept = [o for o in overrides if o.is_sweep_override() or (is_search and o.get_key_element() in params)]
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in overrides if o not in swept]
    for o in swept:
        if o.is_interval_sweep() and not is_search:
            raise ValueError(
                f"{o.input_line} is for a search, hydra/sweeper=optuna_study: a grid needs a list of values"
            )
    if own := [o for o in given if key_of(o) == "hydra.sweep.dir"]:
        check_length(config.hydra.sweep.dir, key_of(own[0]))  # before the checks of networks, which take seconds
    for key in ("output_subdir", "sweep.subdir"):
        check_length(str(OmegaConf.select(config.hydra, key) or ""), f"hydra.{key}")
    check_outputs(config.outputs)
    if is_search and (data_keys := [o.get_key_element() for o in swept if is_of_images(o.get_key_element())]):
        from kd.runtime.user_warnings import warn_user

        warn_user(
            f"the search compares cells of different data sets: {', '.join(data_keys)} changes the validation images, "
            "so validation accuracies are not comparable. Search within one data set"
        )
    cells_of = without_helpers(swept, parser)
    refused = check_jobs_of(config, cells_of, [o.input_line for o in overrides if o not in swept])
    outputs = Path(config.outputs).expanduser().absolute()
    if "${" in str(outputs):
        raise ValueError(f"Hydra reads outputs={outputs} as an interpolation; use a folder without ${{ in its name")
    if any(key_of(o) == "hydra.sweep.dir" for o in given):
        folder = Path(config.hydra.sweep.dir).expanduser().absolute()
    else:
        aside = NOT_IN_NAMES if is_search else (*NOT_IN_NAMES, "optimized_metric")
        name = config.sweep or sweep_name(swept, fixed, config.hydra.runtime.choices.get("experiment"), aside)
        folder = outputs / "sweeps" / name
    check_outputs(str(folder), "hydra.sweep.dir")
    command = command_of(given, outputs, folder)
    _fix_paths(config, {"hydra.sweep.dir": str(folder)}, {"outputs": str(outputs), **of_environment(config.tracking)})
    launch_only(config, swept, cells_of, refused)
    before = len(list((folder / "cells").glob("*.json")))
    trials = before + config.hydra.sweeper.n_trials if is_search else None
    keys = [key_of(o.get_key_element()) for o in swept]
    lasting = [o for o in fixed if key_of(o).split(".")[0].split("/")[0] not in NOT_IN_NAMES]
    cells = None if is_search else grid_cells(cells_of)
    begin_sweep(folder, command, fixed, lasting, keys, cells, trials, [(r.overrides, r.sentence) for r in refused])
    show_refused(refused)
    share_cores(config.hydra.launcher._target_, len(cells) if cells else config.hydra.sweeper.get("n_jobs", 1))
    user_warnings.forget_shown(folder)
    tracking = OmegaConf.to_container(config.tracking, resolve=True)
    os.environ[SWEEP_PID_VARIABLE] = str(os.getpid())
    _monitor = SweepMonitor(folder, outputs, tracking | {"group": tracking["group"] or as_group(folder.name)})


def _fix_paths(config: DictConfig, hydra: Mapping[str, str], task: Mapping[str, str]) -> None:
    """Write absolute paths into the overrides from which every job is composed.

    A job may run in another folder, in another environment and on another machine, where ``outputs`` and ``KD_OUTPUTS``
    name another folder.
    """
    quoted = {name: f"{name}={as_value(value)}" for name, value in {**hydra, **task}.items()}
    with read_write(config), read_write(config.hydra):  # Hydra 1.4 makes both read-only before it calls this
        for name, value in {**hydra, **task}.items():
            OmegaConf.update(config, name, value)
        config.hydra.overrides.hydra.extend([quoted[name] for name in hydra])
        typed = OmegaConf.to_container(config.hydra.overrides.task)  # interpolations unresolved
        config.hydra.overrides.task = [o for o in typed if key_of(o) not in task] + [quoted[name] for name in task]


def of_environment(tracking: DictConfig) -> dict[str, str]:
    """Return the overrides for settings from this process's environment, which a job's environment may lack."""
    raw = OmegaConf.to_container(tracking)
    names = [name for name, value in raw.items() if FROM_ENVIRONMENT.match(str(value))]
    return {f"tracking.{name}": tracking[name] for name in names if tracking[name] is not None}


def is_running() -> bool:
    """Whether this process has started a multirun that is not over."""
    return _monitor is not None


def finish(report: bool = True) -> int:
    """Close the sweep of this process, if any: print the summary, make the report.

    Returns:
        How many cells failed or are missing. Refused cells do not count, unless no cell finished.
    """
    global _monitor, _failed
    if _monitor is None:
        return _failed
    monitor, _monitor, _failed = _monitor, None, 1  # an error below must not count as success
    sweep = monitor.stop()
    missing = ("failed",) if sweep.trials else ("failed", "lost", "running", "waiting")
    _failed = sweep.count(*missing)
    if sweep.count("refused") and not sweep.count(*FINISHED):  # refused cells alone are no failure, but nothing ran
        _failed = max(1, _failed)
    from kd.runtime.console import display_path, print_line

    if not any(map(monitor.is_new, sweep.cells)):
        print_line(f"{sweep.name}: no cell started")
        return _failed
    print_line(f"\n{sweep.name}: {progress_of(sweep, monitor.is_new)}")
    for cell in sweep.cells:
        if cell.status == "failed":
            print_line(f"failed: {' '.join(map(format_override, cell.overrides))}\n  {cell.error}")
    if sweep.count(*missing):
        print_line(f"The same command runs the missing cells:\n  {sweep.command}")
    if report:
        try:
            _report(monitor)
        except Exception as error:  # the runs are safe, and a command of its own makes the report
            print_line(f"The report failed: {error}\n  To try again: python -m kd.report {display_path(sweep.folder)}")
    return _failed


def _report(monitor: SweepMonitor) -> None:
    from kd.report.sweep.aggregate import cell_rows, groups
    from kd.report.sweep.cells_csv import group_rows
    from kd.report.sweep.report import write_sweep_report
    from kd.report.sweep.view import front_rows, points, views
    from kd.runtime.console import display_path, print_line

    files = write_sweep_report(monitor.folder)
    print_line(f"Report: {display_path(files['html'])}")
    if monitor.tracking["mode"] == "disabled":
        return
    from kd.tracking.sweep_report import publish_report

    sweep = read_sweep(monitor.folder)
    hint = publish_report(
        monitor.outputs,
        run_id=digest({"sweep": sweep.name})[:20],
        name=f"report of {sweep.name}",
        config={"sweep": sweep.name},
        figures={name: path for name, path in files.items() if path.suffix == ".png"},
        tables={
            "cells": cell_rows(sweep),
            "grid": group_rows(groups(sweep)),
            "fronts": [row for view in views(sweep) for row in front_rows(view, points(view))],
        },
        summary={
            "cells": {
                "finished": sweep.count(*FINISHED),
                "failed": sweep.count("failed"),
                "refused": sweep.count("refused"),
            }
            | {"all": sweep.total}
        },
        **monitor.tracking,
    )
    print_line(f"{hint}\nsend all: wandb sync {display_path(monitor.outputs / 'wandb')}")
