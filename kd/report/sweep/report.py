"""Make the report of a sweep, finished or not, from its files alone: cells.csv, figures, report.md, report.html."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from kd.records.ledger import read_sweep
from kd.records.run_folder import ROLE_LABELS
from kd.report.sweep import captions, page
from kd.report.sweep.aggregate import Group, cell_rows
from kd.report.sweep.cells_csv import cells_csv
from kd.report.sweep.html import html
from kd.report.sweep.names import group_name, many, short
from kd.report.sweep.tables import markdown
from kd.report.sweep.view import (
    COSTS,
    LINES,
    METRICS,
    Metric,
    Point,
    Slice,
    View,
    mean,
    points,
    spread_of,
    summed_confusion,
    views,
)
from kd.report.text import is_finite
from kd.runtime.values import format_value
from kd.store.files import write_text

Figures = dict[str, tuple[Any, str]]  # name -> figure, alt text
NAMED = 40  # rows of a dot plot; more would make a figure of several screens


def write_sweep_report(folder: Path) -> dict[str, Path]:
    """Write the report into a sweep's folder, from the files there now.

    Returns:
        Paths by name: the figures, "cells" (csv), "markdown" and "html".

    Raises:
        FileNotFoundError: the folder is not that of a sweep.
        ValueError: predictions and result of a run contradict each other, or a figure has no place on the page.
    """
    sweep = read_sweep(Path(folder))
    shown, rows = views(sweep), cell_rows(sweep)
    paths = {"cells": sweep.folder / "cells.csv"}
    write_text(paths["cells"], cells_csv(rows))
    found = [points(each) for each in shown]
    made: Figures = {}
    for each, its_points in zip(shown, found, strict=True):
        drawings = draw_figures(each, its_points) if each.picks else {}
        made |= {each.named(name): drawing for name, drawing in drawings.items()}
    words = {name: words for name, (_, words) in made.items()}
    document = page.page(shown, found, words, [markdown(each.groups) for each in shown], rows)
    drawn: dict[str, tuple[Path, str]] = {}
    if made:
        from kd.report.figures import style  # seaborn takes a second to import

        (sweep.folder / "figures").mkdir(exist_ok=True)
        for name, (figure, _) in made.items():
            drawn[name] = sweep.folder / "figures" / f"{name}.png", words[name]
            style.save(figure, drawn[name][0])
    for old in (sweep.folder / "figures").glob("*.png"):  # left by an earlier report
        if old.stem not in drawn:
            old.unlink()
    paths |= {name: path for name, (path, _) in drawn.items()}
    paths |= {"markdown": sweep.folder / "report.md", "html": sweep.folder / "report.html"}
    write_text(paths["markdown"], document)
    write_text(paths["html"], html(shown, found, drawn, rows))
    return paths


def draw_figures(shown: View, found: Sequence[Point]) -> Figures:
    """Return the figures of one data set."""
    made: Figures = {}
    metrics = [m for m in METRICS if any(math.isfinite(mean(group, m.key)) for group in shown.groups)]
    if shown.kind == "grid":
        made |= {metric.key: _heat(shown, metric) for metric in metrics}
        made["curves"] = _curves(shown, METRICS[0])
    elif shown.kind == "scatter":
        made["accuracy"] = _scatter(shown)
    else:
        draw = _curves if shown.kind == "curve" else draw_dots
        made |= {metric.key: draw(shown, metric) for metric in metrics}
    made["fronts"] = _fronts(shown, found)
    made |= {name: _confusions(shown, group) for name, group in captions.best_cells(shown)}
    return made


def _with_data_set(shown: View, title: str) -> str:
    """Return the title of a figure, after the name of the data set if there are several."""
    return f"{shown.data if len(shown.data) <= 40 else f'{shown.data[:39]}…'}: {title}" if shown.data else title


def _heat(shown: View, metric: Metric) -> tuple[Any, str]:
    from kd.report.figures import heatmap

    rows, columns = shown.rows.values, shown.columns.values
    heats = []
    for part in shown.slices:
        cells = [[part.at(row, column) for column in columns] for row in rows]
        values = [[metric.scale * mean(cell, metric.key) if cell else math.nan for cell in line] for line in cells]
        text = [
            ["\n".join(captions.heat_text(part.at(r, c), metric, part.states.get((r, c), ""))) for c in columns]
            for r in rows
        ]
        picked = [(i, j) for i, line in enumerate(cells) for j, cell in enumerate(line) if shown.picked(cell)]
        heats.append(heatmap.Heat(part.title, np.array(values, float), text, picked))
    names = f"{shown.columns.name} ({shown.columns.setting})", f"{shown.rows.name} ({shown.rows.setting})"
    figure = heatmap.heat_maps(
        heats,
        [format_value(column) for column in columns],
        [format_value(row) for row in rows],
        names,
        _with_data_set(shown, f"{_capital(metric)}, mean over seeds"),
        _legend(shown, metric),
        metric.lower,
    )
    return figure, f"Heat map of {metric.title} by {shown.columns.name} and {shown.rows.name}, mean over seeds"


def _legend(shown: View, metric: Metric) -> str:
    words = ["darker is better", "outlined: picked by validation"]
    if shown.baselines:
        star = f"; {captions.MARK} more than noise after Holm" if metric.key == "accuracy" else ""
        words.append(f"below: difference from the baseline{star}")
    return ", ".join(words)


def _line(x: Sequence[Any], groups: Sequence[Group], model: str, metric: Metric) -> Any:
    from kd.report.figures.sweep_curves import Line

    spreads = [spread_of(group, model, metric.key) for group in groups]
    means, stds = (np.array([metric.scale * getattr(s, name) for s in spreads]) for name in ("mean", "std"))
    return Line(np.array(x, float), means, stds)


def _curves(shown: View, metric: Metric) -> tuple[Any, str]:
    from kd.report.figures import sweep_curves

    rows = shown.rows.values if shown.rows else (None,)
    if len(rows) > LINES:  # the lowest, the highest and some in between
        rows = tuple(rows[round(k * (len(rows) - 1) / (LINES - 1))] for k in range(LINES))
    slices, baselines, teachers = {}, {}, {}
    for part in shown.slices:
        lines = {}
        for row in rows:
            there = [(c, part.at(row, c)) for c in shown.columns.values if part.at(row, c)]
            if there:
                label = f"{shown.rows.name} = {format_value(row)}" if shown.rows else ROLE_LABELS["student"]
                lines[label] = _line([c for c, _ in there], [group for _, group in there], "student", metric)
        if not lines:
            continue
        slices[part.title] = lines
        baseline = _baseline(shown, part, metric)
        baselines |= {part.title: baseline} if len(baseline.x) else {}
        scores = [metric.scale * spread_of(g, "teacher", metric.key).mean for g in part.groups.values()]
        if known := [score for score in scores if math.isfinite(score)]:  # some methods have no teacher
            teachers[part.title] = min(known), max(known)
    along = f"{shown.columns.name} ({shown.columns.setting})"
    title = f"{_capital(metric)}, mean over seeds"
    if any(np.isfinite(line.std).any() for lines in slices.values() for line in lines.values()):
        title += (
            "; band" + ("s" if len(rows) <= sweep_curves.BANDS else " of the baseline") + ": one standard deviation"
        )
    figure = sweep_curves.curves(slices, baselines, teachers, (along, metric.title), _with_data_set(shown, title))
    return figure, f"{_capital(metric)} along {along}, a line for each of: {', '.join(next(iter(slices.values())))}"


def _capital(metric: Metric) -> str:
    return metric.title[0].upper() + metric.title[1:]


def _baseline(shown: View, part: Slice, metric: Metric) -> Any:
    """Return the baseline along the columns, averaged over rows: it differs only if a row changes its training."""
    from kd.report.figures.sweep_curves import Line

    points = []
    for column in shown.columns.values:
        groups = [part.at(row, column) for row in (shown.rows.values if shown.rows else (None,))]
        line = _line([column] * len(groups), [g for g in groups if g], "baseline", metric) if any(groups) else None
        if line is not None and np.isfinite(line.mean).any():
            points.append((column, np.nanmean(line.mean), np.nan_to_num(line.std).mean()))
    return Line(*np.array(points, float).reshape(-1, 3).T)


def _scatter(shown: View) -> tuple[Any, str]:
    from kd.report.figures import sweep_curves

    columns, rows = shown.columns, shown.rows
    there = [g for g in shown.groups if columns.setting in g.values and rows.setting in g.values]
    x, y = (np.array([group.values[axis.setting] for group in there], float) for axis in (columns, rows))
    accuracy = np.array([100 * mean(group, "accuracy") for group in there])
    picked = [k for k, group in enumerate(there) if shown.picked(group)]
    names = f"{columns.name} ({columns.setting})", f"{rows.name} ({rows.setting})"
    title = _with_data_set(shown, "Cells of the search and their accuracy")
    figure = sweep_curves.scatter(x, y, accuracy, picked, names, title)
    return figure, f"Test accuracy of {len(there)} combinations of {columns.name} and {rows.name}, by shade"


def draw_dots(shown: View, metric: Metric) -> tuple[Any, str]:
    """Return a dot plot with a row per group, most accurate first, and its alt text."""
    from kd.report.figures import sweep_curves

    groups = sorted(shown.groups, key=lambda group: -mean(group, "accuracy"))
    cut = ""
    if len(groups) > NAMED:
        cut = f", the {NAMED} most accurate of {len(groups)}"
        missing = [group for group in shown.picks if not any(group is each for each in groups[:NAMED])][:NAMED]
        groups = [*groups[: NAMED - len(missing)], *missing]
    place = range(len(groups))
    names = {name for group in groups for name in group.values}
    setting = next(iter(names)) if len(names) == 1 else None
    along = short(setting) if setting else "combination of settings"  # in the title once, not in every row
    figure = sweep_curves.dots(
        [format_value(group.values[setting]) if setting else group_name(group.values) for group in groups],
        _line(place, groups, "student", metric),
        _line(place, groups, "baseline", metric),
        _line(place, groups, "teacher", metric).mean,
        [k for k, group in enumerate(groups) if shown.picked(group)],
        metric.title,
        _with_data_set(shown, f"{_capital(metric)} by {along}{cut}"),
    )
    of = f"values of {setting}" if setting else "combinations of settings"
    return figure, f"{_capital(metric)} of student, baseline and teacher for {len(groups)} {of}"


def _fronts(shown: View, found: Sequence[Point]) -> tuple[Any, str]:
    from kd.report.figures import pareto

    students = [point for point in found if point.kind == "student"]
    labelled = [point for point in students if any(point.front.values())] or [max(students, key=lambda p: p.accuracy)]
    labelled += [point for point in found if point.kind == "teacher"] if _several(found, "teacher") else []
    labelled.sort(key=lambda point: (point.costs["macs"], point.accuracy))
    letters = {id(point): letter for point, letter in zip(labelled, ascii_uppercase, strict=False)}
    panels = []
    for cost, words in COSTS.items():
        there = [point for point in found if is_finite(point.costs[cost])]  # a latency from a busy machine is unknown
        if there:
            front = pareto.Front(
                words,
                np.array([point.costs[cost] for point in there]),
                np.array([100 * point.accuracy for point in there]),
                np.array([100 * point.std for point in there]),
                [ROLE_LABELS[point.kind] for point in there],
                [letters.get(id(point), "") for point in there],
                np.array([point.front[cost] for point in there]),
            )
            panels.append(front)
    key = [f"{letters[id(point)]}: {point.name}" for point in labelled if id(point) in letters]
    title = _with_data_set(shown, "Accuracy against cost; bars: one standard deviation over seeds")
    figure = pareto.fronts(panels, key, title)
    against = ", ".join(panel.axis for panel in panels)
    return figure, f"Test accuracy against {against}, with the front of each. {'; '.join(key)}"


def _several(found: Sequence[Point], kind: str) -> bool:
    return sum(point.kind == kind for point in found) > 1


def _confusions(shown: View, picked: Group) -> tuple[Any, str]:
    from kd.report.figures import confusion

    over = f"added over {many(len(picked.cells), 'seed')}"
    over = f"{group_name(picked.values)}, {over}" if len(shown.picks) > 1 else over
    student, baseline = (summed_confusion(picked, kind) for kind in ("student", "baseline"))
    figure = confusion.confusions(
        np.array(student),
        None if baseline is None else np.array(baseline),
        picked.cells[0].result["data"]["classes"],
        _with_data_set(shown, f"Confusion matrices, {over}"),
    )
    return figure, f"Confusion matrices of the picked cell and of its baseline, and their difference, {over}"
