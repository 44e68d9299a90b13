"""Make the W&B workspace of a project: ``python -m kd.dashboard --project kd --entity me``.

A workspace is a page of panels over all runs of a project, and is kept by the server: run this once for a project, and
again after a change here. It needs the extra (``pip install -e ".[dashboard]"``) and, but for ``--dry-run``,
a key. The panels name what ``kd.track`` logs; their names stand in one place, below.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from kd.config.keys import shown
from kd.config.rules import GROUP_OF_WANDB, PLACE_OF_WANDB, or_null
from kd.redact import without_secrets
from kd.streams import open_streams

# config: of ``kd.track.SHORT_NAMES``
TEMPERATURE, ALPHA, WIDTH, ATTENTION, METHOD = "temperature", "alpha", "width", "attention", "method"
# summary: the network a run is about, whatever its job type, of ``kd.track.OWN``
TEST, VALIDATION = "test/accuracy", "val/accuracy"
COSTS = {"cost/latency_ms": "latency, batch 1 (ms)", "cost/macs": "MACs", "cost/size_mb": "size (MB)"}
# summary: a student beside its teacher and its twin, of result.json
GAIN, AGREEMENT, SPEED_UP = "comparison/accuracy_gain", "comparison/agreement", "comparison/speed_up/batch_1"
# history
EPOCH = "epoch"
CURVES = {stage: f"{stage}/val_accuracy" for stage in ("student", "baseline", "teacher")}
LOSS = "student/loss"
# media and tables: of kd.report for a run and of kd.sweeps.report for a sweep
CONFUSIONS = [f"figures/confusion_{name}" for name in ("teacher", "baseline", "student", "difference")]
HEAT_MAPS = [f"sweep/{name}" for name in ("accuracy", "nll", "ece", "agreement", "curves")]
FRONTS, BEST_CONFUSIONS = "sweep/fronts", "sweep/confusions"
COMPARISON, PER_CLASS = "teacher_vs_student", "per_class"

MISSING = 'the dashboard needs wandb-workspaces: pip install -e ".[dashboard]"'


def workspace(entity: str, project: str, name: str) -> Any:
    """Return the ``wandb_workspaces.workspaces.Workspace``; nothing is sent.

    Raises:
        ModuleNotFoundError: without the extra ``dashboard``.
    """
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    def config(name: str) -> wr.Config:
        return wr.Config(name)

    def summary(name: str) -> wr.SummaryMetric:
        return wr.SummaryMetric(name)

    def curve(title: str, names: Sequence[str], by: wr.Config | wr.Metric) -> wr.LinePlot:
        """Over epochs: the mean of each group of runs, with its standard deviation."""
        mean = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        return wr.LinePlot(
            title=title, x=EPOCH, y=list(names), title_x="epoch", groupby=by, max_runs_to_show=100, **mean
        )

    def bars(title: str, name: str, by: wr.Config | wr.Metric) -> wr.BarPlot:
        spread = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        return wr.BarPlot(title=title, metrics=[name], groupby=by, max_runs_to_show=100, **spread)

    def axis(metric: wr.Config | wr.SummaryMetric, shown: str, log: bool | None = None) -> Any:
        return wr.ParallelCoordinatesPlotColumn(metric, display_name=shown, log=log)

    job = wr.Metric("JobType")
    temperature, alpha = config(TEMPERATURE), config(ALPHA)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            section(
                "Teacher, student and the student on labels only",
                curve("Validation accuracy by epoch", CURVES.values(), job),
                bars("Test accuracy", TEST, job),
                curve("The student's validation accuracy, by method", [CURVES["student"]], config(METHOD)),
                bars("Gain over labels only, by method", GAIN, config(METHOD)),
                bars("Agreement with the teacher, by method", AGREEMENT, config(METHOD)),
                bars("Speed-up against the teacher, batch 1, by width", SPEED_UP, config(WIDTH)),
                wr.WeavePanelSummaryTable(table_name=COMPARISON),
            ),
            section(
                "Temperature and alpha",
                wr.MediaBrowser(title="Heat maps of the sweep", media_keys=HEAT_MAPS, num_columns=2),
                curve("The student's validation accuracy, by temperature", [CURVES["student"]], temperature),
                curve("The student's validation accuracy, by alpha", [CURVES["student"]], alpha),
                curve("The student's loss, by temperature", [LOSS], temperature),
                bars("Test accuracy, by temperature", TEST, temperature),
                bars("Test accuracy, by alpha", TEST, alpha),
                wr.ScatterPlot(title="Gain by temperature", x=temperature, y=summary(GAIN), log_x=True),
                wr.ScatterPlot(title="Gain by alpha", x=alpha, y=summary(GAIN)),
                wr.ParallelCoordinatesPlot(
                    title="From settings to accuracy",
                    columns=[
                        axis(temperature, "temperature", log=True),
                        axis(alpha, "alpha"),
                        axis(config(WIDTH), "width"),
                        axis(config(ATTENTION), "attention"),
                        axis(summary(VALIDATION), "validation accuracy"),
                        axis(summary(TEST), "test accuracy"),
                    ],
                ),
                wr.ParameterImportancePlot(with_respect_to=TEST),
            ),
            section(
                "Pareto: what accuracy costs",
                *(
                    wr.ScatterPlot(title=f"Test accuracy by {shown}", x=summary(cost), y=summary(TEST), log_x=True)
                    for cost, shown in COSTS.items()
                ),
                wr.MediaBrowser(title="Fronts of the sweep", media_keys=[FRONTS], num_columns=1),
            ),
            section(
                "Confusion matrices",
                wr.MediaBrowser(title="Of the run", media_keys=CONFUSIONS, num_columns=2),
                wr.MediaBrowser(title="Of the sweep's best cell", media_keys=[BEST_CONFUSIONS], num_columns=1),
                wr.WeavePanelSummaryTable(table_name=PER_CLASS),
            ),
            section("Run against run", wr.RunComparer(diff_only="split")),
        ],
        settings=ws.WorkspaceSettings(x_axis=EPOCH, max_runs=100),
        runset_settings=ws.RunsetSettings(
            order=[ws.Ordering(ws.Summary(TEST), ascending=False)],
            pinned_columns=[
                "run:displayName",
                "run:jobType",
                *(f"config:{name}.value" for name in (TEMPERATURE, ALPHA, "seed")),
                f"summary:{TEST}",
            ],
        ),
    )


def section(name: str, *panels: Any) -> Any:
    """Return a section, open, with its panels two in a row."""
    from wandb_workspaces import workspaces as ws

    layout = ws.SectionLayoutSettings(columns=2, rows=max(1, (len(panels) + 1) // 2))
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def outline(made: Any) -> str:
    """Return what a workspace shows, for people: a line a section and a line a panel."""
    lines = [f'workspace "{made.name}" of {made.entity}/{made.project}']
    for part in made.sections:
        lines.append(f"  {part.name}")
        for panel in part.panels:
            title = getattr(panel, "title", None) or getattr(panel, "table_name", "")
            lines.append(f"    {type(panel).__name__:24}{title}".rstrip())
    return "\n".join(lines)


def _entity() -> str | None:
    """Return the account's default entity, or None without a key."""
    import wandb

    # without a prompt, on a terminal too
    return wandb.Api().default_entity if wandb.login(prompt=False, verify=False) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2: W&B does not take a name, or the extra, the key or the server is missing; the message says which."""
    open_streams()
    parser = argparse.ArgumentParser(
        prog="python -m kd.dashboard", description="Make the W&B workspace of a project: the panels for its sweeps."
    )
    project, entity = (os.environ.get(f"WANDB_{name}", "").strip() for name in ("PROJECT", "ENTITY"))
    parser.add_argument("--project", default=project or "kd", help="default: WANDB_PROJECT, or kd, as in conf/tracking")
    parser.add_argument("--entity", default=entity or None, help="default: WANDB_ENTITY, or your account's")
    parser.add_argument("--name", default="Distillation", help="of the workspace; default: Distillation")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made; needs no network and no key")
    given = parser.parse_args(arguments)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # as kd.track has it
    rules = {"project": PLACE_OF_WANDB, "entity": or_null(PLACE_OF_WANDB), "name": GROUP_OF_WANDB}
    for name, rule in rules.items():
        if not rule.good(value := getattr(given, name)):
            print(f"kd.dashboard: --{name} must be {rule.right}, got {shown(value)}", file=sys.stderr)
            return 2
    try:
        if given.dry_run:
            print(outline(workspace(given.entity or "your account", given.project, given.name)))
            return 0
        import wandb_workspaces  # noqa: F401  before anything is asked of the server

        entity = given.entity or _entity()
        if not entity:
            raise ValueError("no API key: `wandb login`, or WANDB_API_KEY, or look with --dry-run")
        made = workspace(entity, given.project, given.name).save()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "wandb_workspaces":
            raise
        print(f"kd.dashboard: {MISSING}", file=sys.stderr)
        return 2
    except Exception as error:  # wandb has no common class for its errors
        print(f"kd.dashboard: {type(error).__name__}: {without_secrets(str(error))}", file=sys.stderr)
        return 2
    print(f"{outline(made)}\n{made.url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
