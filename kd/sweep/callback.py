"""What a multirun adds to a run: a name, a ledger, progress and a report.

Hydra 1.3 neither goes on to ``on_multirun_end`` after a failed job nor shows more than the first failure. So the cells
keep a ledger of files (``kd/records/ledger.py``), this process watches it whatever launcher the cells run under, and
``finish`` is called by the callback and once more when the command ends.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from kd.config.callback import refusing
from kd.config.checks import check_length, check_outputs
from kd.config.command_line import as_value, expand_homes
from kd.config.errors import explain_error, restore_hydra_errors, values_of
from kd.config.keys import FROM_ENVIRONMENT, key_of
from kd.config.wandb_names import as_group
from kd.records.ledger import FINISHED, begin_sweep, read_sweep
from kd.report.sweep.test_sets import is_of_images
from kd.runtime import user_warnings
from kd.runtime.signals import LEADER
from kd.runtime.values import format_override
from kd.store.store import digest
from kd.sweep.monitor import SweepMonitor, progress_of
from kd.sweep.naming import ASIDE, command_of, grid_cells, sweep_name
from kd.tracking.wandb_environment import find_agent

# as in run.py, which a launcher's workers do not import
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")
TRIED = 24  # values of one setting: each takes a tenth of a second
MOST = 100_000  # cells of a sweep
_watch: SweepMonitor | None = None  # of the multirun that this process has started
_failed = 0  # its cells that failed, once it is over


class SweepCallback(Callback):
    """``hydra.callbacks.sweep``: checks the jobs of a multirun; names it, writes down its cells, follows them, makes
    the report."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        restore_hydra_errors()
        with refusing("the sweep cannot begin: "):
            expand_homes(config)
            _start(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        finish()


def preflight_values(config: DictConfig, swept: Sequence[Override], fixed: Sequence[str]) -> None:
    """Check every value of a sweep once, with the others at their first; of many values ``TRIED``.

    Raises:
        ValueError: as of ``check_jobs``.
    """
    from kd.pipeline.preflight import check_jobs

    for o in swept:
        if o.get_key_element() in ("outputs", "sweep"):
            raise ValueError(f"{o.input_line}: a sweep has one folder; start one for each")
    values = {o.get_key_element(): list(islice(values_of(o), MOST + 1)) for o in swept}
    for o in swept:
        if not values[o.get_key_element()]:
            raise ValueError(f"{o.input_line} has no value")
    if math.prod(map(len, values.values())) > MOST:
        raise ValueError(f"the sweep has more than {MOST:,} cells")
    first = {key: found[0] for key, found in values.items()}
    cells = [first, *({**first, key: value} for key, found in values.items() for value in sample_values(found))]
    name = config.hydra.job.config_name
    of_hydra = [o for o in config.hydra.overrides.hydra if key_of(o) != "hydra.mode"]

    def composed(cell: Mapping[str, str]) -> DictConfig:
        overrides = [*fixed, *(f"{key}={value}" for key, value in cell.items())]
        try:
            return compose(name, [*of_hydra, *overrides], return_hydra_config=True)
        except Exception as error:
            raise ValueError(explain_error(error, overrides, name)) from error

    check_jobs(map(composed, cells))


def sample_values(values: Sequence[str]) -> Sequence[str]:
    """The values behind the first; of many ``TRIED`` or fewer, evenly and to the last."""
    return values[: 0 : -max(1, -(-(len(values) - 1) // TRIED))]


def _start(config: DictConfig) -> None:
    """Name the sweep, settle where it lies, write its cells down, watch them."""
    global _watch
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # an experiment may say MULTIRUN without -m
        text = "kd: torchrun shares one run; of a multirun, start every cell with a torchrun of its own"
        raise SystemExit(text if os.environ.get("RANK", "0") == "0" else 1)
    if find_agent() and config.tracking.mode != "disabled":
        raise ValueError(
            "a wandb agent (WANDB_SWEEP_ID in the environment) hands out one run at a time: leave -m and the values "
            "away, or say tracking=disabled"
        )
    for part in (config.hydra.sweeper, config.hydra.launcher):  # what is wrong there is told before any folder is made
        OmegaConf.to_container(part, resolve=True)
    task = OmegaConf.to_container(config.hydra.overrides.task)  # as typed, interpolations too
    given = [*config.hydra.overrides.hydra, *task]
    params = config.hydra.sweeper.get("params") or {}
    written = [f"{name}={value}" for name, value in params.items()] + task
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = list({o.get_key_element(): o for o in parser.parse_overrides(written)}.values())
    is_search = "BasicSweeper" not in config.hydra.sweeper._target_
    swept = [o for o in overrides if o.is_sweep_override() or (is_search and o.get_key_element() in params)]
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in overrides if o not in swept]
    for o in swept:
        if o.is_interval_sweep() and not is_search:
            raise ValueError(f"{o.input_line} is for a search, hydra/sweeper=optuna_study: a grid wants values")
    if own := [o for o in given if key_of(o) == "hydra.sweep.dir"]:
        check_length(config.hydra.sweep.dir, key_of(own[0]))  # before seconds go into networks
    for key in ("output_subdir", "sweep.subdir"):
        check_length(str(OmegaConf.select(config.hydra, key) or ""), f"hydra.{key}")
    check_outputs(config.outputs)
    if is_search and (apart := [o.get_key_element() for o in swept if is_of_images(o.get_key_element())]):
        from kd.runtime.user_warnings import warn_user

        warn_user(
            f"the search takes cells of several data sets for one another: {', '.join(apart)} changes the images that "
            "validate, and with them what validation accuracy means. Search within one data set"
        )
    preflight_values(config, swept, [o.input_line for o in overrides if o not in swept])
    outputs = Path(config.outputs).expanduser().absolute()
    if "${" in str(outputs):
        raise ValueError(f"outputs={outputs} would be read as an interpolation; take a folder without ${{ in its name")
    if any(key_of(o) == "hydra.sweep.dir" for o in given):
        folder = Path(config.hydra.sweep.dir).expanduser().absolute()
    else:
        aside = ASIDE if is_search else (*ASIDE, "optimized_metric")
        name = config.sweep or sweep_name(swept, fixed, config.hydra.runtime.choices.get("experiment"), aside)
        folder = outputs / "sweeps" / name
    check_outputs(str(folder), "hydra.sweep.dir")
    command = command_of(given, outputs, folder)
    _settle(config, {"hydra.sweep.dir": str(folder)}, {"outputs": str(outputs), **of_environment(config.tracking)})
    before = len(list((folder / "cells").glob("*.json")))
    trials = before + config.hydra.sweeper.n_trials if is_search else None
    keys = [key_of(o.get_key_element()) for o in swept]
    lasting = [o for o in fixed if key_of(o).split(".")[0].split("/")[0] not in ASIDE]
    begin_sweep(folder, command, fixed, lasting, keys, None if is_search else grid_cells(swept), trials)
    user_warnings.forget_shown(folder)
    tracking = OmegaConf.to_container(config.tracking, resolve=True)
    os.environ[LEADER] = str(os.getpid())
    _watch = SweepMonitor(folder, outputs, tracking | {"group": tracking["group"] or as_group(folder.name)})


def _settle(config: DictConfig, hydra: Mapping[str, str], task: Mapping[str, str]) -> None:
    """Write absolute places into the overrides that every job is composed from: a job may run in another folder, in
    another environment and on another machine, where ``outputs`` and ``KD_OUTPUTS`` mean something else."""
    quoted = {name: f"{name}={as_value(value)}" for name, value in {**hydra, **task}.items()}
    with read_write(config), read_write(config.hydra):  # which Hydra 1.4 closes before it asks us
        for name, value in {**hydra, **task}.items():
            OmegaConf.update(config, name, value)
        config.hydra.overrides.hydra.extend([quoted[name] for name in hydra])
        typed = OmegaConf.to_container(config.hydra.overrides.task)  # interpolations too
        config.hydra.overrides.task = [o for o in typed if key_of(o) not in task] + [quoted[name] for name in task]


def of_environment(tracking: DictConfig) -> dict[str, str]:
    """What the environment of this process says of project and entity, which that of a job may not say."""
    written = OmegaConf.to_container(tracking)
    found = [name for name, value in written.items() if FROM_ENVIRONMENT.match(str(value))]
    return {f"tracking.{name}": tracking[name] for name in found if tracking[name] is not None}


def is_running() -> bool:
    """Whether this process has started a multirun that is not over."""
    return _watch is not None


def finish(report: bool = True) -> int:
    """Close the sweep of this process, if there is one: the last lines, the report. Returns how many cells failed, or
    are missing."""
    global _watch, _failed
    if _watch is None:
        return _failed
    watch, _watch, _failed = _watch, None, 1  # whatever happens now, nobody shall take it for a success
    sweep = watch.stop()
    missing = ("failed",) if sweep.trials else ("failed", "lost", "running", "waiting")
    _failed = sweep.count(*missing)
    from kd.runtime.console import display_path, print_line

    if not any(map(watch.is_new, sweep.cells)):
        print_line(f"{sweep.name}: no cell was begun")
        return _failed
    print_line(f"\n{sweep.name}: {progress_of(sweep, watch.is_new)}")
    for cell in sweep.cells:
        if cell.status == "failed":
            print_line(f"failed: {' '.join(map(format_override, cell.overrides))}\n  {cell.error}")
    if _failed:
        print_line(f"The same command does what is missing:\n  {sweep.command}")
    if report:
        try:
            _report(watch)
        except Exception as error:  # the cells are safe, and the report is a command of its own
            print_line(
                f"The report could not be made: {error}\n  python -m kd.report {display_path(sweep.folder)} tries again."
            )
    return _failed


def _report(watch: SweepMonitor) -> None:
    from kd.report.sweep.aggregate import cell_rows, groups
    from kd.report.sweep.cells_csv import group_rows
    from kd.report.sweep.report import write_sweep_report
    from kd.report.sweep.view import front_rows, points, views
    from kd.runtime.console import display_path, print_line

    made = write_sweep_report(watch.folder)
    print_line(f"Report: {display_path(made['html'])}")
    if watch.tracking["mode"] == "disabled":
        return
    from kd.tracking.sweep_report import publish_report

    sweep = read_sweep(watch.folder)
    hint = publish_report(
        watch.outputs,
        run_id=digest({"sweep": sweep.name})[:20],
        name=f"report of {sweep.name}",
        config={"sweep": sweep.name},
        figures={name: path for name, path in made.items() if path.suffix == ".png"},
        tables={
            "cells": cell_rows(sweep),
            "grid": group_rows(groups(sweep)),
            "fronts": [row for shown in views(sweep) for row in front_rows(shown, points(shown))],
        },
        summary={"cells": {"finished": sweep.count(*FINISHED), "failed": sweep.count("failed"), "all": sweep.total}},
        **watch.tracking,
    )
    print_line(f"{hint}\nsend all: wandb sync {display_path(watch.outputs / 'wandb')}")
