"""The command of a run: ``python -m kd.run teacher=vea_resnet18 student=tiny_cnn``.

The steps of a run, in this order:

1. ``main`` reads the arguments, and Hydra composes the config from ``conf/``.
2. ``kd.pipeline.preflight.check_run`` makes every object once, before the run writes anything (``conf/config.yaml``
   makes Hydra call it).
3. ``kd.pipeline.prepare.prepare`` makes the ``RunPlan``: data, networks, methods, content keys. With
   ``train.batch_size=auto``, ``kd.pipeline.batch_size`` finds the micro-batches, and ``prepare`` makes the plan again.
4. ``kd.pipeline.execute.execute`` carries it out: ``find_finished``; ``run_stages`` trains or reuses teacher, baseline
   and student (``kd.pipeline.distill``, ``kd.pipeline.stage``); ``write_results``; ``report``; ``track``.
5. ``show`` prints the table.

In a multirun, ``kd.sweep.callback`` checks the jobs in place of step 2, and ``kd.sweep.job`` runs steps 3 and 4 for
each.

Heavy modules are imported when they are needed, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd.config.command_line import hydra_arguments, trim_text
from kd.config.errors import friendly_errors, refuse_dashes, restore_hydra_errors, show_tracebacks
from kd.config.paths import conf_dir
from kd.config.register import register
from kd.runtime.errors import explain_os_error
from kd.runtime.process import configure_process
from kd.runtime.signals import exit_now, exit_silently, install_handlers, received_signal
from kd.runtime.streams import open_streams
from kd.runtime.user_warnings import show_plainly

if TYPE_CHECKING:
    from kd.pipeline.plan import RunResult

# our yaml file of a launcher overrides the plugin's of the same name on purpose, and Hydra warns of it
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")
GROUPS = ("data", "augment", "attention", "teacher", "student", "kd", "train", "tracking", "experiment")


configure_process()
register()
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def show(outcome: RunResult) -> None:
    """Print the table of a run, and the path of its report."""
    from kd.report.run.tables import terminal_table
    from kd.runtime.console import print_line

    report = outcome.folder / "report.md"
    where = f"Report: {report}" if report.is_file() else f"Folder: {outcome.folder}"
    ship = f"ship: python -m kd.export {shlex.quote(str(outcome.folder))}"
    print_line("\n".join(["", terminal_table(outcome.result), "", where, ship, outcome.hint]))


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")
def compose_and_run(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Execute a run, or one job of a multirun, from a composed config; print an expected error in one line."""
    restore_hydra_errors()
    open_streams()  # again, for the worker of a launcher
    job = HydraConfig.get()
    if "sweep" not in job.callbacks:
        name = job.job.config_name
        raise SystemExit(
            f"kd: {name}.yaml is not a main config: a main config begins with 'defaults: [config, _self_]'"
        )
    choices = {group: job.runtime.choices[group] for group in GROUPS if job.runtime.choices.get(group)}
    own = [o for o in job.overrides.task if not o.startswith("outputs=")]
    command = "python -m kd.run " + shlex.join(own)
    if job.mode == RunMode.MULTIRUN:
        from kd.sweep.job import run_sweep_job
        from kd.sweep.naming import name_group

        name_group(cfg, Path(job.sweep.dir))
        return run_sweep_job(cfg, choices, command)
    given = any(override.startswith("hydra.run.dir=") for override in job.overrides.hydra)
    try:
        from kd.pipeline.execute import run

        outcome = run(cfg, choices, Path(job.runtime.output_dir) if given else None, command)
    except Exception as error:
        from kd.runtime.console import wait_for_turn

        wait_for_turn(error)
        expected = (ValueError, OSError, ArithmeticError, OmegaConfBaseException, InstantiationException)
        if show_tracebacks() or not isinstance(error, expected):
            raise
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        print(
            f"kd: {explain_os_error(cause, cfg.outputs)}\n(Set HYDRA_FULL_ERROR=1 to see the traceback.)",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
    show(outcome)
    from kd.sweep.job import objective_values

    return objective_values(outcome, cfg)


def read_arguments() -> None:
    """Rewrite the arguments for Hydra's grammar; report the blanks that Hydra drops."""
    if sys.getfilesystemencoding() != "utf-8" and any(any("\udc80" <= c <= "\udcff" for c in w) for w in sys.argv):
        locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or "of this shell"
        print(f"kd: Python cannot read these letters in the locale {locale}: set PYTHONUTF8=1", file=sys.stderr)
        raise SystemExit(2)
    typed, sys.argv[1:] = sys.argv[1:], hydra_arguments(sys.argv[1:])
    for message in trim_text(typed, sys.argv[1:]):
        print(f"kd: {message}", file=sys.stderr)


def main() -> None:
    """The entry point of ``python -m kd.run`` and ``kd-run``."""
    failed, interrupted = 0, False
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # else DDP warns in every process about an intended setting
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    show_plainly()
    open_streams()
    install_handlers()
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))  # argparse requires it first
    read_arguments()
    try:
        with friendly_errors():
            refuse_dashes(sys.argv[1:])
            compose_and_run()
    except KeyboardInterrupt:
        exit_silently()
        interrupted = True
        if show_tracebacks():
            raise
    finally:
        multirun = sys.modules.get("kd.sweep.callback")
        sweeps = multirun is not None and multirun.is_running()
        if multirun:
            failed = multirun.finish(report=not interrupted)
    if interrupted:
        print("kd: interrupted; the same command resumes from here", file=sys.stderr, flush=True)
        if not sweeps:  # a sweep's launcher must end its processes first
            exit_now()
        raise SystemExit(128 + (received_signal() or signal.SIGINT))
    exit_silently()
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
