"""What a multirun adds to a run: a name, a ledger, progress and a report. Beside run.py the only file that knows Hydra.

Hydra 1.3 neither goes on to ``on_multirun_end`` after a failed job nor shows more than the first failure. So the cells
keep a ledger of files (``kd/sweeps/ledger.py``), this process watches it whatever launcher the cells run under, and
``finish`` is called by the callback and once more when the command ends.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from kd.store import digest
from kd.sweeps.ledger import FINISHED, Cell, Sweep, begin_sweep, key_of, read_sweep

# as in run.py, which a launcher's workers do not import
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")

ASIDE = ("tracking", "outputs", "sweep", "hydra")  # settings that do not change what a sweep computes
_watch: Watch | None = None  # of the multirun that this process has started
_failed = 0  # its cells that failed, once it is over


class SweepCallback(Callback):
    """``hydra.callbacks.sweep``: names the sweep, writes down its cells, follows them, makes the report."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        global _watch
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # an experiment may say MULTIRUN without -m
            text = "kd: torchrun shares one run; of a multirun, start every cell with a torchrun of its own"
            raise SystemExit(text if os.environ.get("RANK", "0") == "0" else 1)
        given = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
        command = shlex.join(["python", "-m", "kd.run", "-m", *(o for o in given if not o.startswith("hydra.mode="))])
        OmegaConf.to_container(
            config.hydra.sweeper, resolve=True
        )  # what is wrong there is told before folders are made
        params = config.hydra.sweeper.get("params") or {}
        written = [f"{name}={value}" for name, value in params.items()] + list(config.hydra.overrides.task)
        overrides = list({o.get_key_element(): o for o in OverridesParser.create().parse_overrides(written)}.values())
        is_search = "BasicSweeper" not in config.hydra.sweeper._target_
        swept = [o for o in overrides if o.is_sweep_override() or (is_search and o.get_key_element() in params)]
        fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in overrides if o not in swept]
        outputs = Path(config.outputs).expanduser().absolute()
        name = config.sweep or name_of(swept, fixed, config.hydra.runtime.choices.get("experiment"))
        folder = Path(config.hydra.sweep.dir).expanduser().absolute()
        if not any(o.startswith("hydra.sweep.dir=") for o in given):
            folder = outputs / "sweeps" / name
        _settle(config, {"hydra.sweep.dir": str(folder)}, {"outputs": str(outputs)})
        cells = None if is_search else product(swept)
        before = len(list((folder / "cells").glob("*.json")))
        trials = before + config.hydra.sweeper.n_trials if is_search else None
        keys = [key_of(o.get_key_element()) for o in swept]
        begin_sweep(folder, command, fixed, keys, cells, trials)
        tracking = OmegaConf.to_container(config.tracking, resolve=True)
        _watch = Watch(folder, outputs, tracking | {"group": tracking["group"] or folder.name})

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        finish()


def _settle(config: DictConfig, hydra: Mapping[str, str], task: Mapping[str, str]) -> None:
    """Write absolute places into the overrides that every job is composed from: a job may run in another folder, in
    another environment and on another machine, where ``outputs`` and ``KD_OUTPUTS`` mean something else."""
    for name, value in {**hydra, **task}.items():
        OmegaConf.update(config, name, value)
    quoted = {name: f"{name}={_quoted(value)}" for name, value in {**hydra, **task}.items()}
    config.hydra.overrides.hydra.extend([quoted[name] for name in hydra])
    kept = [o for o in config.hydra.overrides.task if key_of(o) not in task]
    config.hydra.overrides.task = kept + [quoted[name] for name in task]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def name_of(swept: Sequence[Override], fixed: Sequence[str], experiment: str | None) -> str:
    """Name a sweep by what it computes: the same command, the same folder, so that it can be gone on with."""
    said = [o.input_line for o in swept] + list(fixed)
    kept = sorted(line for line in said if key_of(line).split(".")[0].split("/")[0] not in ASIDE)
    keys = [key_of(o.get_key_element()).split(".")[-1] for o in swept]
    return f"{experiment or '-'.join(keys) or 'sweep'}-{digest({'overrides': kept})[:6]}"


def product(swept: Sequence[Override]) -> list[list[str]]:
    """The overrides of every cell, in the order in which Hydra's own sweeper runs them."""
    cells: list[list[str]] = [[]]
    for override in swept:
        key = override.get_key_element()
        cells = [[*cell, f"{key}={value}"] for cell in cells for value in override.sweep_string_iterator()]
    return cells


class Watch:
    """Reads the ledger while the cells run, and says what became of each and how long the rest will take."""

    def __init__(self, folder: Path, outputs: Path, tracking: dict[str, Any]):
        self.folder, self.outputs, self.tracking = folder, outputs, tracking
        self.told = set[tuple[str, ...]]()
        self.since = time.time()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="sweep progress", daemon=True)
        self.thread.start()

    def stop(self) -> Sweep:
        self.over.set()
        self.thread.join()
        return self.look()

    def _follow(self) -> None:
        pause = 0.5
        while not self.over.wait(pause):
            began = time.perf_counter()
            self.look()
            pause = max(0.5, 20 * (time.perf_counter() - began))  # a large ledger takes a while to read

    def look(self) -> Sweep:
        """Tell what ended since the last look."""
        from kd.progress import say

        sweep = read_sweep(self.folder, results=False)
        for number, cell in enumerate(sweep.cells, 1):
            ended = cell.status in (*FINISHED, "failed") and (cell.began or 0) >= self.since
            if ended and cell.overrides not in self.told:
                self.told.add(cell.overrides)
                say(line_of(cell, number, sweep.total))
                say(f"  {progress_of(sweep, self.since)}")
        return sweep


def line_of(cell: Cell, number: int, total: int) -> str:
    """What became of one cell, in a line."""
    overrides = " ".join(cell.overrides)
    if cell.status == "failed":
        return f"cell {number}/{total} FAILED  {overrides}\n  {cell.error}"
    return (
        f"cell {number}/{total} {cell.status}  {overrides}  validation {100 * cell.value:.2f} %  {cell.seconds:.0f} s"
    )


def progress_of(sweep: Sweep, since: float) -> str:
    """How far a sweep is, and how long the rest will take at the pace of the cells that were run."""
    from kd.progress import minutes

    left = sweep.total - sweep.count(*FINISHED, "failed")
    told = [f"{sweep.count(*FINISHED)} of {sweep.total} finished"]
    told += [f"{sweep.count(status)} {status}" for status in ("running", "failed") if sweep.count(status)]
    run = [cell for cell in sweep.cells if cell.status == "done" and (cell.began or 0) >= since]
    spent = [max(0.0, cell.seconds - cell.teaching) for cell in run]
    if left and spent:
        told.append(f"about {minutes(left * sum(spent) / len(spent) / max(1, sweep.count('running')))} left")
    return ", ".join(told)


def finish(report: bool = True) -> int:
    """Close the sweep of this process, if there is one: the last lines, the report. Returns how many cells failed."""
    global _watch, _failed
    if _watch is None:
        return _failed
    watch, _watch = _watch, None
    sweep = watch.stop()
    from kd.progress import here, say

    say(f"\n{sweep.name}: {progress_of(sweep, watch.since)}")
    failed = [cell for cell in sweep.cells if cell.status == "failed"]
    for cell in failed:
        say(f"failed: {' '.join(cell.overrides)}\n  {cell.error}")
    if sweep.count("failed", "lost", "running", "waiting"):
        say(f"The same command does what is missing:\n  {sweep.command}")
    if report:
        try:
            _report(watch)
        except Exception as error:  # the cells are safe, and the report is a command of its own
            say(f"The report could not be made: {error}\n  python -m kd.report {here(sweep.folder)} tries again.")
    sys.stdout.flush()
    _failed = len(failed)
    return _failed


def _report(watch: Watch) -> None:
    from kd.progress import here, say
    from kd.sweeps.grid import cell_rows
    from kd.sweeps.report import write_sweep_report
    from kd.sweeps.tables import group_rows
    from kd.sweeps.view import front_rows, points, view

    made = write_sweep_report(watch.folder)
    say(f"Report: {here(made['html'])}")
    if watch.tracking["mode"] == "disabled":
        return
    from kd.track import publish_report

    sweep = read_sweep(watch.folder)
    shown = view(sweep)
    hint = publish_report(
        watch.outputs,
        run_id=digest({"sweep": sweep.name})[:20],
        name=f"report of {sweep.name}",
        config={"sweep": sweep.name},
        figures={name: path for name, path in made.items() if path.suffix == ".png"},
        tables={
            "cells": cell_rows(sweep),
            "grid": group_rows(shown.groups),
            "fronts": front_rows(points(shown)) if shown.best else [],
        },
        summary={"cells": {"finished": sweep.count(*FINISHED), "failed": sweep.count("failed"), "all": sweep.total}},
        **watch.tracking,
    )
    say(f"{hint}\nsend all: wandb sync {here(watch.outputs / 'wandb')}")
