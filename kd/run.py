"""The command of a run: ``python -m kd.run teacher=vea_resnet18 student=tiny_cnn``.

The steps of a run, in this order:

1. ``main`` reads the arguments, and Hydra composes the config from ``conf/``.
2. ``kd.pipeline.preflight.check_run`` tries every object before anything is written (Hydra calls it, see ``conf/``).
3. ``kd.pipeline.prepare.prepare`` makes the ``RunPlan``: data, networks, methods, content keys. With
   ``train.batch_size=auto``, ``kd.pipeline.batch_size`` finds the micro-batches, and the plan is made once more.
4. ``kd.pipeline.execute.execute`` carries it out: ``find_finished``; ``run_stages`` trains or reuses teacher, baseline
   and student (``kd.pipeline.distill``, ``kd.pipeline.stage``); ``write_results``; ``report``; ``track``.
5. ``show`` prints the table.

In a multirun, ``kd.sweep.callback`` checks the jobs in place of step 2, and ``kd.sweep.job`` runs steps 3 and 4 for each.

Everything heavy is imported when it is needed, so that ``--help`` and ``--cfg job`` answer at once.
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
from kd.config.wandb_names import as_group
from kd.runtime.errors import explain_os_error
from kd.runtime.signals import exit_now, exit_silently, install_handlers, received_signal
from kd.runtime.streams import open_streams
from kd.runtime.user_warnings import show_plainly

if TYPE_CHECKING:
    from kd.pipeline.plan import RunResult

# our yaml of a launcher hides the plugin's of the same name, and is checked against it: that is meant
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")
GROUPS = ("data", "attention", "teacher", "student", "kd", "train", "tracking", "experiment")


register()
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def show(outcome: RunResult) -> None:
    """Print the table of a run, and where its files are."""
    from kd.report.run.tables import terminal_table
    from kd.runtime.console import print_line

    report = outcome.folder / "report.md"
    where = f"Report: {report}" if report.is_file() else f"Folder: {outcome.folder}"
    print_line(f"\n{terminal_table(outcome.result)}\n\n{where}\n{outcome.hint}")


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")
def compose_and_run(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Make the run, or the job of a multirun, of a composed config; explain in a line what went wrong."""
    restore_hydra_errors()
    open_streams()  # of a launcher's worker
    job = HydraConfig.get()
    if "sweep" not in job.callbacks:
        name = job.job.config_name
        raise SystemExit(f"kd: {name}.yaml is no main config: such a file begins with 'defaults: [config, _self_]'")
    choices = {group: job.runtime.choices[group] for group in GROUPS if job.runtime.choices.get(group)}
    own = [o for o in job.overrides.task if not o.startswith("outputs=")]
    command = "python -m kd.run " + shlex.join(own)
    if job.mode == RunMode.MULTIRUN:
        if cfg.tracking.group is None:
            cfg.tracking.group = as_group(Path(job.sweep.dir).name)
        from kd.sweep.job import run_sweep_job

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
            f"kd: {explain_os_error(cause, cfg.outputs)}\n(HYDRA_FULL_ERROR=1 shows where this was found.)",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
    show(outcome)
    from kd.sweep.job import objective_values

    return objective_values(outcome, cfg)


def read_arguments() -> None:
    """Rewrite the arguments as Hydra's grammar wants them; name the blanks that it drops."""
    if sys.getfilesystemencoding() != "utf-8" and any(any("\udc80" <= c <= "\udcff" for c in w) for w in sys.argv):
        locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or "this one"
        print(f"kd: Python reads no such letters in the locale {locale}: say PYTHONUTF8=1 before it", file=sys.stderr)
        raise SystemExit(2)
    typed, sys.argv[1:] = sys.argv[1:], hydra_arguments(sys.argv[1:])
    for sentence in trim_text(typed, sys.argv[1:]):
        print(f"kd: {sentence}", file=sys.stderr)


def main() -> None:
    """The entry point of ``python -m kd.run`` and ``kd-run``."""
    failed, interrupted = 0, False
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # else every process prints a warning of DDP about what is intended
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    show_plainly()
    open_streams()
    install_handlers()
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))  # argparse wants it first
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
        print("kd: interrupted; the same command goes on from here", file=sys.stderr, flush=True)
        if not sweeps:  # whose launcher has processes to end
            exit_now()
        raise SystemExit(128 + (received_signal() or signal.SIGINT))
    exit_silently()
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
