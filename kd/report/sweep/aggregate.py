"""Aggregate the cells of a ledger into groups, the cells that differ only in the seed, and compute their numbers.

The test split never picks: ``best`` uses validation. Every claim on the test split is corrected (Holm) for the number
of claims over all groups of its test set; gains over the baseline and over a reference are corrected separately.
Groups that were tested on other images form another data set (``kd.report.sweep.test_sets``).
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kd.config.keys import key_of
from kd.evaluation.statistics import crossed_t, holm, paired_bootstrap
from kd.records.ledger import Cell, Sweep
from kd.records.run_folder import is_calm, picked_by
from kd.report.gain import gain_recovered
from kd.report.sweep.names import order
from kd.report.sweep.test_sets import SEED, split_digests
from kd.runtime.values import format_override, format_value, number_or_text, parse_value
from kd.store.store import KEY_DIGITS

LEVEL = 0.05
SCORES = ("accuracy", "macro_f1", "nll", "ece")
COSTS = ("params", "macs", "size_mb")
MORE_SCORES = ("top5_accuracy", "balanced_accuracy")  # missing in older results and for some data sets


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the seeds of a group."""

    mean: float
    std: float  # with n - 1; NaN for n = 1
    n: int


@dataclass(frozen=True)
class Gain:
    """Test accuracy of the student minus that of its baseline, in [-1, 1], with its interval and significance.

    With two seeds or more: ``kd.evaluation.statistics.crossed_t``, with seeds and test images as random effects. With
    one seed: the interval of ``paired_bootstrap`` and the run's own exact McNemar p, which cover the test images alone.
    """

    mean: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided
    p_holm: float  # corrected for all groups of the test set
    significant: bool  # p_holm < 0.05; a loss can be significant as well
    seeds: int


@dataclass(frozen=True)
class Group:
    """Cells that differ only in the seed."""

    values: dict[str, Any]  # swept settings except the seed: {"kd.temperature": 4, "teacher": "resnet18"}
    overrides: tuple[str, ...]  # together with a seed, they run a cell of this group
    cells: tuple[Cell, ...]  # finished, at least one, each seed once, in the order of the seeds
    metrics: dict[str, Spread]  # see METRICS
    gain: Gain | None  # None without a baseline
    equals_baseline: bool = False  # the two are equal to the bit (alpha = 0): the gain is 0 by construction
    test: str = ""  # digest of its test images: groups with other test images are not compared with it
    val: frozenset[str] = frozenset()  # digests of the validation images of its cells

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(cell.result["seed"] for cell in self.cells)

    @property
    def runs(self) -> tuple[Path, ...]:
        """Run folders of the cells. Groups with equal runs are one result under several names: alpha = 0 at every T."""
        return tuple(cell.run for cell in self.cells)


# name -> value in a result.json; None or NaN if it has none. Accuracies and gains in [0, 1], ms, MB of 2^20 bytes.
METRICS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    **{name: lambda result, name=name: result["student"][name] for name in SCORES},
    **{name: lambda result, name=name: result["student"].get(name) for name in MORE_SCORES},
    "agreement": lambda result: result["comparison"]["agreement"],
    "val_accuracy": lambda result: result["student"]["training"]["best_val_accuracy"],
    **{
        f"val_{name}": lambda result, name=name: result["student"]["training"].get(f"best_val_{name}")
        for name in ("balanced_accuracy", "macro_f1")
    },
    "gain": lambda result: result["comparison"]["accuracy_gain"],
    "recovered": gain_recovered,
    "baseline_accuracy": lambda result: (result["baseline"] or {}).get("accuracy"),
    "teacher_accuracy": lambda result: (result["teacher"] or {}).get("accuracy"),
    "epoch_seconds": lambda result: epoch_seconds(result["student"]),
    "latency_1": lambda result: latencies(result["student"])[0],
    "latency_large": lambda result: latencies(result["student"])[-1],
    "latency_one_thread": lambda result: one_thread(result["student"]),
    **{name: lambda result, name=name: result["student"][name] for name in COSTS},
    "throughput": lambda result: throughput(result["student"]),
}


def groups(sweep: Sweep) -> list[Group]:
    """Return the groups that have a finished cell, sorted by their values; the sweep may still be running.

    Cells that were tested on different images are never in one group.

    Raises:
        ValueError: predictions and result contradict each other.
    """
    by_values: dict[tuple[Any, ...], dict[int, tuple[Cell, str]]] = {}
    finished = [cell for cell in sweep.cells if cell.result]
    for cell, (test, val) in zip(finished, split_digests([cell.result for cell in finished]), strict=True):
        seeds = by_values.setdefault((test, *_values(cell, sweep.swept).items()), {})
        seeds.setdefault(cell.result["seed"], (cell, val))  # 4 and 4.0 are two cells of one run
    made = []
    for (test, *_), seeds in by_values.items():
        cells, val = zip(*(seeds[seed] for seed in sorted(seeds)), strict=True)
        made.append(replace(_group(cells, sweep), test=test, val=frozenset(val)))
    made.sort(key=lambda group: [order(value) for value in group.values.values()])
    return _corrected(made)


def claims(groups: Iterable[Group]) -> list[Group]:
    """Return the groups whose gains Holm's correction counts as claims.

    These have a baseline and are not the baseline itself. Of several groups with the same runs only the first counts.
    """
    first: dict[tuple[Path, ...], Group] = {}
    for group in groups:
        if group.gain and not group.equals_baseline:
            first.setdefault(group.runs, group)
    return list(first.values())


def picks(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that validation picks, ``best`` of all groups that were validated on the same images.

    That is one group, or one for each test set and each validation set (``data.seed``, ``data.val_fraction``).
    """
    parts: list[tuple[set[tuple[str, str]], list[Group]]] = []
    for group in groups:
        own = {(group.test, val) for val in group.val}  # several if the split depends on the seed
        joined = [part for part in parts if part[0] & own]
        parts = [part for part in parts if part not in joined]
        parts.append((own.union(*(sets for sets, _ in joined)), [*(g for _, more in joined for g in more), group]))
    return [best(part) for _, part in parts]


def has(group: Group, wanted: Mapping[str, Any]) -> bool:
    """Whether a group has these values, in the spelling of the tables."""
    own = {name: format_value(value) for name, value in group.values.items()}
    return all(own.get(name) == format_value(value) for name, value in wanted.items())


def best(groups: Sequence[Group]) -> Group:
    """Return the group with the highest mean of the validation measure; among equals the first by its values.

    While a sweep runs, a group with one lucky seed may lead; ``metrics["val_accuracy"].n`` is its number of seeds.

    Raises:
        ValueError: there is no group.
    """
    if not groups:
        raise ValueError("no cell of the sweep has finished, so there is no best one yet")
    by = f"val_{picking(groups)}"
    return max(groups, key=lambda group: group.metrics[by].mean)  # max returns the first of equals


def picking(groups: Iterable[Group]) -> str:
    """Return the measure by which validation picks, a key of ``kd.records.run_folder.PICKS``.

    It is train.pick_by if all cells have the same, otherwise accuracy.
    """
    measures = {picked_by(cell.result["student"]["training"]) for group in groups for cell in group.cells}
    return measures.pop() if len(measures) == 1 else "accuracy"


def distinct(groups: Iterable[Group], name: str) -> list[Any]:
    """Return the values of one swept setting: numbers by size, then text by the alphabet."""
    return sorted({group.values[name] for group in groups if name in group.values}, key=order)


def cell_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Return one row per cell, finished or not: plain values, None for a value that does not exist (yet).

    Columns: number (from 1), status, every swept setting under its name (by ``number_or_text``), the METRICS of that
    one run, ``mcnemar_p`` (student against baseline), ``test_set`` (compare only rows of the same one), ``seconds`` of
    the job, ``run`` (its folder, relative to the sweep's), ``command`` (runs this cell alone) and ``error``.
    """
    names = list(dict.fromkeys(name for cell in sweep.cells for name in _values(cell, sweep.swept, seed=True)))
    finished = [cell for cell in sweep.cells if cell.result]
    digests = iter(split_digests([cell.result for cell in finished]))
    rows = []
    for number, cell in enumerate(sweep.cells, 1):
        values = _values(cell, sweep.swept, seed=True)
        row = {"number": number, "status": cell.status}
        row |= {name: number_or_text(values[name]) if name in values else None for name in names}
        row |= {name: take(cell.result) if cell.result else None for name, take in METRICS.items()}
        row["mcnemar_p"] = cell.result["comparison"]["mcnemar_p"] if cell.result else None
        row["test_set"] = next(digests).test[:KEY_DIGITS] if cell.result else None
        row["seconds"] = cell.seconds
        row["run"] = Path(os.path.relpath(cell.run, sweep.folder)).as_posix() if cell.run else None
        row["command"] = shlex.join(["python", "-m", "kd.run", *_alone(sweep.fixed), *_alone(cell.overrides)])
        rows.append({**row, "error": cell.error})
    return rows


def spread(values: Iterable[float | None]) -> Spread:
    """Return mean and standard deviation (n - 1) of the values that are not None."""
    known = np.array([value for value in values if value is not None], dtype=float)
    mean = float(known.mean()) if known.size else math.nan
    return Spread(mean, float(known.std(ddof=1)) if known.size > 1 else math.nan, known.size)


def _group(cells: Sequence[Cell], sweep: Sweep) -> Group:
    results = [cell.result for cell in cells]
    metrics = {name: spread(map(take, results)) for name, take in METRICS.items()}
    teachers = {r["settings"].get("teacher.seed"): r["teacher"]["accuracy"] for r in results if r["teacher"]}
    metrics["teacher_accuracy"] = spread(teachers.values())  # a teacher counts once, however many students it has
    own = [override for override in cells[0].overrides if key_of(override) != SEED]
    group = Group(_values(cells[0], sweep.swept), (*_alone(sweep.fixed), *_alone(own)), tuple(cells), metrics, None)
    if not all(result["baseline"] for result in results):
        return group
    try:
        student, baseline, same = _right(cells)
    except FileNotFoundError:  # you deleted the predictions: the gain is known (metrics) but cannot be tested
        return group
    if same:
        return replace(group, gain=Gain(0.0, 0.0, 0.0, 1.0, 1.0, False, len(cells)), equals_baseline=True)
    exact = results[0]["comparison"]["mcnemar_p"]  # the p that the run's own report shows
    return replace(group, gain=paired_gain(student, baseline, lambda: exact))


def paired_gain(student: np.ndarray, other: np.ndarray, exact: Callable[[], float]) -> Gain:
    """Return the gain of one network over another, before Holm's correction.

    Args:
        student, other: where each is right, bool [S, N]. exact: returns the p for a single seed.
    """
    test = crossed_t(student, other) if len(student) > 1 else replace(paired_bootstrap(student, other), p=exact())
    return Gain(test.mean, test.low, test.high, test.p, math.nan, False, len(student))


def load_predictions(cell: Cell, *names: str) -> list[np.ndarray]:
    """Return the targets [N], then the logits [N, K] of each role in ``names``.

    Raises:
        FileNotFoundError: the run has no predictions any more. ValueError: they lack a role.
    """
    path = cell.run / "predictions.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: without the predictions of a run its gain cannot be tested")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in ("target", *names) if name not in arrays.files]
        if missing:
            raise ValueError(f"{path} has no {', '.join(missing)}, although its result.json has it")
        return [arrays[name] for name in ("target", *names)]


def _right(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return where student and baseline are right, each [S, N], and whether their logits are equal in every cell."""
    student, baseline, same, first = [], [], [], None
    for cell in cells:
        target, logits, others = load_predictions(cell, "student", "baseline")
        first = target if first is None else first
        if not np.array_equal(target, first):
            raise ValueError(
                f"{cells[0].run.name} and {cell.run.name} were tested on different images (predictions.npz: target), "
                "so they are not two seeds of one setting."
            )
        student.append(logits.argmax(1) == target)
        baseline.append(others.argmax(1) == target)
        same.append(np.array_equal(logits, others))
    return np.array(student), np.array(baseline), all(same)


def _corrected(groups: Sequence[Group]) -> list[Group]:
    p_holm: dict[tuple[Path, ...], float] = {}
    for test in {group.test for group in groups}:  # claims on other data sets do not count here
        made = claims(group for group in groups if group.test == test)
        adjusted = holm([group.gain.p for group in made])
        p_holm |= {group.runs: float(p) for group, p in zip(made, adjusted, strict=True)}
    result = []
    for group in groups:
        if group.gain and not group.equals_baseline:
            p = p_holm[group.runs]
            group = replace(group, gain=replace(group.gain, p_holm=p, significant=p < LEVEL))
        result.append(group)
    return result


def _values(cell: Cell, swept: Sequence[str], seed: bool = False) -> dict[str, Any]:
    """Return the swept values, in the order of the command.

    They come from the overrides: the settings of a shared run hold the temperature of the cell that made it.
    """
    order = {name: place for place, name in enumerate(swept)}
    texts = sorted(cell.values.items(), key=lambda item: order.get(item[0], len(order)))
    return {name: parse_value(text) for name, text in texts if seed or name != SEED}


def _alone(overrides: Iterable[str]) -> list[str]:
    """Leave out the overrides that belong to the sweep and not to a run: its name, launchers and sweepers."""
    ours = ((key_of(override), format_override(override)) for override in overrides)
    return [override for key, override in ours if key != "sweep" and not key.startswith(("hydra.", "hydra/"))]


def epoch_seconds(network: Mapping[str, Any]) -> float | None:
    """Return a network's training time per epoch, validation included; None for one from a checkpoint."""
    about = network["training"]
    return about["seconds"] / about["epochs"] if about["epochs"] else None


def latencies(network: Mapping[str, Any]) -> list[float | None]:
    """Return a network's median latencies in ms, smallest batch first; None if measured on a busy machine."""
    times = network["latency_ms"]
    ordered = sorted(times, key=lambda name: int(name.rpartition("_")[2]))
    return [times[batch]["p50"] if is_calm(network, batch) else None for batch in ordered]


def one_thread(network: Mapping[str, Any]) -> float | None:
    """Return the median latency of one image on one CPU thread in ms; None on an accelerator."""
    return latencies(network["one_thread"])[0] if network.get("one_thread") else None


def throughput(network: Mapping[str, Any]) -> float | None:
    """Return images/s at the large batch; None if measured on a busy machine."""
    return network["throughput"] if latencies(network)[-1] is not None else None
