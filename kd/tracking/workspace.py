"""The W&B workspace of a project: a page of panels over all its runs, stored on the server.

The panels name what ``kd.tracking`` logs; their names are constants below, and a test compares them with a run's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

EXTRA = "wandb_workspaces"  # the module that the extra ``dashboard`` installs

# config, see ``kd.tracking.names.SHORT_NAMES``
TEMPERATURE, ALPHA, WIDTH, ATTENTION, METHOD = "temperature", "alpha", "width", "attention", "method"
# summary of the network that a run is about, for any job type, see ``kd.tracking.names.NETWORK_SUMMARY``
TEST, VALIDATION = "test/accuracy", "val/accuracy"
COSTS = {"cost/latency_ms": "latency, batch 1 (ms)", "cost/macs": "MACs", "cost/size_mb": "size (MB)"}
# summary: a student compared with its teacher and its baseline, from result.json
GAIN, AGREEMENT, SPEED_UP = "comparison/accuracy_gain", "comparison/agreement", "comparison/speed_up/batch_1"
# history
EPOCH = "epoch"
CURVES = {role: f"{role}/val_accuracy" for role in ("student", "baseline", "teacher")}
LOSS = "student/loss"
# media and tables, from the report of a run and that of a sweep
CONFUSIONS = [f"figures/confusion_{name}" for name in ("teacher", "baseline", "student", "difference")]
HEAT_MAPS = [f"sweep/{name}" for name in ("accuracy", "nll", "ece", "agreement", "curves")]
FRONTS, BEST_CONFUSIONS = "sweep/fronts", "sweep/confusions"
COMPARISON, PER_CLASS = "teacher_vs_student", "per_class"


def build_workspace(entity: str, project: str, name: str) -> Any:
    """Return the ``wandb_workspaces.workspaces.Workspace``; nothing is sent.

    Raises:
        ModuleNotFoundError: the extra ``dashboard`` is not installed.
    """
    from wandb_workspaces import workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[_roles(), _temperature_and_alpha(), _pareto(), _confusion_matrices(), _comparer()],
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


def _roles() -> Any:
    from wandb_workspaces.reports import v2 as wr

    job, method, width = wr.Metric("JobType"), wr.Config(METHOD), wr.Config(WIDTH)
    return section(
        "Teacher, student and labels-only baseline",
        curve("Validation accuracy by epoch", CURVES.values(), job),
        bars("Test accuracy", TEST, job),
        curve("The student's validation accuracy, by method", [CURVES["student"]], method),
        bars("Gain over the baseline, by method", GAIN, method),
        bars("Agreement with the teacher, by method", AGREEMENT, method),
        bars("Speed-up against the teacher, batch 1, by width", SPEED_UP, width),
        wr.WeavePanelSummaryTable(table_name=COMPARISON),
    )


def _temperature_and_alpha() -> Any:
    from wandb_workspaces.reports import v2 as wr

    temperature, alpha = wr.Config(TEMPERATURE), wr.Config(ALPHA)
    axes = {
        "temperature": temperature,
        "alpha": alpha,
        "width": wr.Config(WIDTH),
        "attention": wr.Config(ATTENTION),
        "validation accuracy": wr.SummaryMetric(VALIDATION),
        "test accuracy": wr.SummaryMetric(TEST),
    }
    return section(
        "Temperature and alpha",
        wr.MediaBrowser(title="Heat maps of the sweep", media_keys=HEAT_MAPS, num_columns=2),
        curve("The student's validation accuracy, by temperature", [CURVES["student"]], temperature),
        curve("The student's validation accuracy, by alpha", [CURVES["student"]], alpha),
        curve("The student's loss, by temperature", [LOSS], temperature),
        bars("Test accuracy, by temperature", TEST, temperature),
        bars("Test accuracy, by alpha", TEST, alpha),
        wr.ScatterPlot(title="Gain by temperature", x=temperature, y=wr.SummaryMetric(GAIN), log_x=True),
        wr.ScatterPlot(title="Gain by alpha", x=alpha, y=wr.SummaryMetric(GAIN)),
        wr.ParallelCoordinatesPlot(
            title="From settings to accuracy",
            columns=[
                wr.ParallelCoordinatesPlotColumn(metric, display_name=label, log=metric is temperature or None)
                for label, metric in axes.items()
            ],
        ),
        wr.ParameterImportancePlot(with_respect_to=TEST),
    )


def _pareto() -> Any:
    from wandb_workspaces.reports import v2 as wr

    test = wr.SummaryMetric(TEST)
    return section(
        "Pareto: what accuracy costs",
        *(
            wr.ScatterPlot(title=f"Test accuracy by {label}", x=wr.SummaryMetric(cost), y=test, log_x=True)
            for cost, label in COSTS.items()
        ),
        wr.MediaBrowser(title="Fronts of the sweep", media_keys=[FRONTS], num_columns=1),
    )


def _confusion_matrices() -> Any:
    from wandb_workspaces.reports import v2 as wr

    return section(
        "Confusion matrices",
        wr.MediaBrowser(title="Of the run", media_keys=CONFUSIONS, num_columns=2),
        wr.MediaBrowser(title="Of the sweep's best cell", media_keys=[BEST_CONFUSIONS], num_columns=1),
        wr.WeavePanelSummaryTable(table_name=PER_CLASS),
    )


def _comparer() -> Any:
    from wandb_workspaces.reports import v2 as wr

    return section("Run against run", wr.RunComparer(diff_only="split"))


def section(name: str, *panels: Any) -> Any:
    """Return an open section with two panels per row."""
    from wandb_workspaces import workspaces as ws

    layout = ws.SectionLayoutSettings(columns=2, rows=max(1, (len(panels) + 1) // 2))
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def curve(title: str, names: Sequence[str], by: Any) -> Any:
    """Return a line plot over epochs: the mean of each group of runs, with its standard deviation."""
    from wandb_workspaces.reports import v2 as wr

    mean = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    axes = {"x": EPOCH, "y": list(names), "title_x": "epoch"}
    return wr.LinePlot(title=title, **axes, groupby=by, max_runs_to_show=100, **mean)


def bars(title: str, name: str, by: Any) -> Any:
    """Return a bar plot: the mean of each group of runs, with its standard deviation."""
    from wandb_workspaces.reports import v2 as wr

    mean = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    return wr.BarPlot(title=title, metrics=[name], groupby=by, max_runs_to_show=100, **mean)


def outline(workspace: Any) -> str:
    """Return a workspace as text: one line per section and per panel."""
    lines = [f'workspace "{workspace.name}" of {workspace.entity}/{workspace.project}']
    for part in workspace.sections:
        lines.append(f"  {part.name}")
        for panel in part.panels:
            title = getattr(panel, "title", None) or getattr(panel, "table_name", "")
            lines.append(f"    {type(panel).__name__:24}{title}".rstrip())
    return "\n".join(lines)


def save_workspace(entity: str | None, project: str, name: str) -> Any:
    """Build a workspace, save it on the server, and return it with its ``url``.

    Args:
        entity: None for the account's own.

    Raises:
        ModuleNotFoundError: the extra ``dashboard`` is not installed. ValueError: there is no API key. Other errors are
        wandb's.
    """
    import wandb_workspaces  # noqa: F401  before any request to the server

    entity = entity or _default_entity()
    if not entity:
        raise ValueError("no API key: run `wandb login` or set WANDB_API_KEY; --dry-run needs none")
    return build_workspace(entity, project, name).save()


def _default_entity() -> str | None:
    """Return the account's default entity, or None without a key."""
    import wandb

    # without a prompt, on a terminal too
    return wandb.Api().default_entity if wandb.login(prompt=False, verify=False) else None
