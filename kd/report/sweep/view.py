"""The view model of a sweep's report: axes, slices and points, shared by report.html, report.md and the figures.

Two swept numbers make a grid (a heat map and curves), or a scatter plot if a search left most of the grid empty. One
number makes a curve; names alone make dots. Further settings make slices. A sweep over several data sets has a view of
each and does not compare them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd.evaluation.statistics import pareto_front
from kd.records.ledger import Cell, Sweep
from kd.records.run_folder import is_calm, picked
from kd.report.sweep.aggregate import Group, Spread, groups, picks, spread
from kd.report.sweep.names import group_name, order, short
from kd.report.sweep.test_sets import DataSet, data_sets
from kd.report.text import is_finite
from kd.runtime.values import format_value, is_number, parse_value

SLICES = 6  # with more slices only that of the picked cell is drawn
LINES = 8  # at most, in one panel
SPARSE = 0.34  # a grid with a smaller share of cells is drawn as a scatter plot
FIRST = ("kd.temperature", "kd.alpha")  # if swept, they are the columns and the rows
UNFINISHED = ("failed", "lost", "running", "waiting", "refused")  # a group with several of these gets the first
MODELS = ("teacher", "baseline", "student")


@dataclass(frozen=True)
class Axis:
    setting: str
    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Slice:
    """The groups of one combination of the settings that are not an axis, by (row, column); None without that axis."""

    title: str  # "student.width = 2", "" for the only slice
    groups: Mapping[tuple[Any, Any], Group]
    states: Mapping[tuple[Any, Any], str]  # of cells without a finished run: one of UNFINISHED

    def at(self, row: Any, column: Any) -> Group | None:
        return self.groups.get((row, column))


@dataclass(frozen=True)
class Metric:
    """A measure as heat maps show it."""

    key: str
    title: str
    scale: float
    form: str
    lower: bool = False


METRICS = (
    Metric("accuracy", "test accuracy (%)", 100, ".2f"),
    Metric("nll", "NLL (nats)", 1, ".3f", lower=True),
    Metric("ece", "ECE (%)", 100, ".2f", lower=True),
    Metric("agreement", "agreement with the teacher (%)", 100, ".2f"),
)


@dataclass(frozen=True)
class View:
    sweep: Sweep
    data: str  # what distinguishes this data set from the others, "root = A"; "" for the only one
    number: int  # of the data set, from 1
    groups: tuple[Group, ...]  # with at least one finished cell
    picks: tuple[Group, ...]  # by validation: one, or one for each set of validation images
    kind: str  # "grid", "scatter", "curve", "dots"; "nothing" while no cell is finished
    columns: Axis | None
    rows: Axis | None
    slices: tuple[Slice, ...]  # drawn
    left_out: int  # number of slices that are not drawn

    def picked(self, group: Group | None) -> bool:
        return any(group is each for each in self.picks)

    def named(self, figure: str) -> str:
        """Return the name of the file of a figure."""
        return figure if self.number == 1 else f"data{self.number}_{figure}"

    @property
    def result(self) -> Mapping[str, Any] | None:
        """A result of any cell, for facts that all cells share."""
        return next((cell.result for group in self.groups for cell in group.cells), None)

    @property
    def baselines(self) -> bool:
        return any(group.gain is not None for group in self.groups)


def views(sweep: Sweep) -> list[View]:
    """Return a view of each data set; one empty view if no cell has finished."""
    sets = data_sets(groups(sweep))
    if not sets:
        return [View(sweep, "", 1, (), (), "nothing", None, None, (), 0)]
    return [_view(sweep, each, number) for number, each in enumerate(sets, 1)]


def _view(sweep: Sweep, data: DataSet, number: int) -> View:
    found = data.groups
    wanted = []  # values and status of every cell in the ledger: an unfinished sweep shows its whole grid
    for cell in sweep.cells:
        values = {name: parse_value(text) for name, text in cell.values.items()}
        if data.has(values):
            wanted.append(({name: values[name] for name in values if name in found[0].values}, cell.status))
    everything = [*(group.values for group in found), *(values for values, _ in wanted)]
    names = dict.fromkeys(name for name in (*sweep.swept, *found[0].values) if name in found[0].values)
    swept = {name: tuple(sorted({v[name] for v in everything if name in v}, key=order)) for name in names}
    numeric = [
        name
        for name, values in swept.items()
        if len(values) > 1 and all(map(is_number, values)) and not name.endswith(".seed")
    ]
    numeric.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    axis = [Axis(name, short(name, list(swept)), swept[name]) for name in numeric[:2]]
    columns, rows = (*axis, None, None)[:2]
    kind = ("dots", "curve", "grid")[len(axis)]
    others = [name for name, values in swept.items() if len(values) > 1 and name not in numeric[:2]]
    chosen = tuple(picks(found))

    def shown_as(kind: str, slices: Sequence[Slice] = (), left_out: int = 0) -> View:
        return View(sweep, data.title, number, found, chosen, kind, columns, rows, tuple(slices), left_out)

    if kind == "grid":
        combinations = math.prod(len(swept[name]) for name in others)
        places = len(columns.values) * len(rows.values) * combinations
        planned = {tuple(sorted(map(str, values.items()))) for values, _ in wanted}
        if max(len(found), len(planned)) < SPARSE * places and places > 12:
            return shown_as("scatter")
    if kind == "dots":
        return shown_as(kind)

    def place(values: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, Any]]:
        held = tuple(values.get(name) for name in others)
        return held, (values.get(rows.setting) if rows else None, values.get(columns.setting))

    by_slice: dict[tuple[Any, ...], dict[tuple[Any, Any], Group]] = {}
    for group in found:
        held, where = place(group.values)
        by_slice.setdefault(held, {})[where] = group
    states: dict[tuple[Any, ...], dict[tuple[Any, Any], list[str]]] = {}
    for values, status in wanted:
        held, where = place(values)
        if where not in by_slice.get(held, {}):
            states.setdefault(held, {}).setdefault(where, []).append(status)
    everything = sorted(set(by_slice) | set(states), key=lambda held: tuple(map(order, held)))
    shown = everything
    if len(everything) > SLICES:
        shown = [place(chosen[0].values)[0]]
    slices = [
        Slice(
            ", ".join(f"{short(name, list(swept))} = {format_value(v)}" for name, v in zip(others, held, strict=True)),
            by_slice.get(held, {}),
            {where: min(all_, key=_severity) for where, all_ in states.get(held, {}).items()},
        )
        for held in shown
    ]
    return shown_as(kind, slices, len(everything) - len(shown))


def _severity(status: str) -> int:
    return UNFINISHED.index(status) if status in UNFINISHED else len(UNFINISHED)


def mean(group: Group, metric: str) -> float:
    """Return the mean over seeds; NaN without a value."""
    spread = group.metrics.get(metric)
    return spread.mean if spread is not None and is_finite(spread.mean) else math.nan


def deviation(group: Group, metric: str) -> float:
    """Return the standard deviation over seeds; NaN without one."""
    spread = group.metrics.get(metric)
    return spread.std if spread is not None and is_finite(spread.std) else math.nan


def spread_of(group: Group, model: str, metric: str) -> Spread:
    """Return the spread over seeds of a measure of any role; NaN if the role or its measure does not exist."""

    def take(result: Mapping[str, Any]) -> float | None:
        if metric != "agreement":
            return (result.get(model) or {}).get(metric)
        return result["comparison"].get({"student": "agreement", "baseline": "baseline_agreement"}.get(model, ""))

    return spread(take(cell.result) for cell in group.cells)


def gain_over_baseline(group: Group, metric: str) -> float:
    """Return the mean over seeds of student minus baseline in a measure; NaN without a baseline."""
    return spread_of(group, "student", metric).mean - spread_of(group, "baseline", metric).mean


# --- points of the fronts ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    kind: str  # "teacher", "student", "baseline"
    name: str
    accuracy: float  # in [0, 1], mean over seeds
    std: float
    costs: Mapping[str, float]
    front: Mapping[str, bool]  # by cost


COSTS = {"latency_1": "latency, batch 1 (ms)", "macs": "MACs (millions)", "size_mb": "size (MB)"}


def _cost(model: Mapping[str, Any], cost: str) -> float:
    if cost == "latency_1":
        return float(model["latency_ms"]["batch_1"]["p50"]) if is_calm(model, "batch_1") else math.nan
    return float(model[cost]) * (1e-6 if cost == "macs" else 1)


def _average(values: Sequence[float]) -> float:
    values = [value for value in values if is_finite(value)]
    return sum(values) / len(values) if values else math.nan


def points(shown: View) -> list[Point]:
    """Return a point for every group's student, and for each teacher and baseline once.

    Networks of equal size and MACs share the mean of their measured latencies, which differ only by measurement noise.
    A latency measured on a busy machine counts as unknown and is on no front.
    """
    raw: list[tuple[str, str, float, float, dict[str, float], Any]] = []
    for group in shown.groups:
        for kind in MODELS:
            results = [cell.result for cell in group.cells if cell.result.get(kind)]
            if not results:
                continue
            models = [result[kind] for result in results]
            costs = {cost: _average([_cost(model, cost) for model in models]) for cost in COSTS}
            accuracy = [model["accuracy"] for model in models]
            if kind == "student":
                name, std = group_name(group.values), deviation(group, "accuracy")
            else:
                names = {"teacher": results[0]["choices"].get("teacher", "teacher"), "baseline": "baseline"}
                name = names[kind]
                std = deviation(group, "baseline_accuracy") if kind == "baseline" else math.nan
            raw.append((kind, name, _average(accuracy), std, costs, (models[0]["params"], models[0]["macs"])))
    measured: dict[Any, list[float]] = {}
    for _, _, _, _, costs, network in raw:
        measured.setdefault(network, []).append(costs["latency_1"])
    unique: dict[Any, tuple] = {}
    for number, (kind, name, accuracy, std, costs, network) in enumerate(raw):
        costs = costs | {"latency_1": _average(measured[network])}
        same = number if kind == "student" else (kind, round(accuracy, 9), network)
        unique.setdefault(same, (kind, name, accuracy, std, costs))
    kept = list(unique.values())
    fronts = {}
    for cost in COSTS:
        usable = [k for k, point in enumerate(kept) if is_finite(point[4][cost]) and is_finite(point[2])]
        mask = pareto_front([kept[k][4][cost] for k in usable], [kept[k][2] for k in usable])
        fronts[cost] = {k: bool(on) for k, on in zip(usable, mask, strict=True)}
    return [Point(*point, {cost: fronts[cost].get(k, False) for cost in COSTS}) for k, point in enumerate(kept)]


def front_rows(shown: View, found: Sequence[Point]) -> list[dict[str, Any]]:
    """Return one row per point of the fronts, plain values: accuracy in [0, 1], costs, and whether on each front."""
    data_set = {"data set": shown.data} if shown.data else {}
    return [
        {**data_set, "network": point.kind, "name": point.name, "accuracy": point.accuracy, "std": point.std}
        | {name: point.costs[cost] for cost, name in COSTS.items()}
        | {f"on the front of {name}": point.front[cost] for cost, name in COSTS.items()}
        for point in found
    ]


def one_cost(found: Sequence[Point]) -> bool:
    """Whether all students cost the same, as in a sweep over T and α."""
    return len({(point.costs["macs"], point.costs["size_mb"]) for point in found if point.kind == "student"}) < 2


# --- the best cell -------------------------------------------------------------------------------------------------


def median_cell(group: Group) -> Cell:
    """Return the finished cell of median validation (the lower of two in the middle), as a typical seed."""
    cells = sorted(group.cells, key=lambda cell: picked(cell.result["student"]["training"]))
    return cells[(len(cells) - 1) // 2]


def summed_confusion(group: Group, kind: str) -> list[list[int]] | None:
    """Return the confusion matrix [K, K] of a role, added over the seeds of a group; None without this role."""
    matrices = [cell.result[kind]["confusion"] for cell in group.cells if cell.result.get(kind)]
    if not matrices:
        return None
    return [[sum(column) for column in zip(*line, strict=True)] for line in zip(*matrices, strict=True)]
