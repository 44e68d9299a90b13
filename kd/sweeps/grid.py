"""From a ledger to the numbers of its report: cells that differ in the seed alone make a group, groups make a grid.

The test split never picks: ``best`` goes by validation, and every claim on the test split is corrected for
the number of claims (Holm) over all groups of its test set: those over the twin, and apart from them those over a
reference. Groups that were tested on other pictures are another data set (``kd.sweeps.data_sets``).
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kd.config.keys import key_of
from kd.evaluate import mcnemar
from kd.runtime.text import did_you_mean
from kd.runtime.values import format_override, format_value, number_or_text, parse_value
from kd.store import SHORT
from kd.sweeps.data_sets import SEED, shown_to
from kd.sweeps.ledger import Cell, Sweep
from kd.sweeps.names import order
from kd.sweeps.statistics import crossed_t, holm, paired_bootstrap
from kd.tables import is_calm, picked_by

LEVEL = 0.05
SCORES = ("accuracy", "macro_f1", "nll", "ece")
COSTS = ("params", "macs", "size_mb")
MORE_SCORES = ("top5_accuracy", "balanced_accuracy")  # which results of before have not, nor all data sets


@dataclass(frozen=True)
class Spread:
    """Over the seeds of a group."""

    mean: float
    std: float  # with n - 1; nan for n = 1
    n: int


@dataclass(frozen=True)
class Gain:
    """Test accuracy of the student less that of its twin, as fractions in [-1, 1], and what of it is chance.

    Two seeds and more: ``kd.sweeps.statistics.crossed_t``, seeds and test pictures both being chance. One seed: the
    interval of ``paired_bootstrap`` and the run's own exact McNemar p, which speak of the test pictures alone.
    """

    mean: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided
    p_holm: float  # corrected for all groups of the test set
    significant: bool  # p_holm < 0.05; a loss can be significant too
    seeds: int


@dataclass(frozen=True)
class Difference:
    """Test accuracy of a group's student less that of the reference's, seed by seed of those that both have."""

    spread: Spread  # of the seeds' differences
    gain: (
        Gain | None
    )  # what of it is chance, p_holm over all groups compared; None where it is one and the same network


@dataclass(frozen=True)
class Group:
    """Cells that differ in the seed alone."""

    values: dict[str, Any]  # of what was swept but the seed: {"kd.temperature": 4, "teacher": "resnet18"}
    overrides: tuple[str, ...]  # they run it, given a seed
    cells: tuple[Cell, ...]  # finished, at least one, each seed once, in the order of the seeds
    metrics: dict[str, Spread]  # see METRICS
    gain: Gain | None  # None without a twin
    own_twin: bool = False  # the student is the twin, bit for bit (alpha = 0): its gain is 0 by construction, no test
    test: str = ""  # which pictures it was tested on: groups of other ones are not compared with it
    val: frozenset[str] = frozenset()  # which pictures its cells were validated on

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(cell.result["seed"] for cell in self.cells)

    @property
    def runs(self) -> tuple[Path, ...]:
        """Groups with equal runs are one thing under several names: alpha = 0 at every temperature."""
        return tuple(cell.run for cell in self.cells)


# name -> of a result.json, and None or NaN where there is none. Accuracies and gains in [0, 1], ms, MB of 2^20 bytes.
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
    "recovered": lambda result: _recovered(result),
    "twin_accuracy": lambda result: (result["baseline"] or {}).get("accuracy"),
    "teacher_accuracy": lambda result: result["teacher"]["accuracy"],
    "epoch_seconds": lambda result: epoch_seconds(result["student"]),
    "latency_1": lambda result: latencies(result["student"])[0],
    "latency_large": lambda result: latencies(result["student"])[-1],
    "latency_one_thread": lambda result: one_thread(result["student"]),
    **{name: lambda result, name=name: result["student"][name] for name in COSTS},
    "throughput": lambda result: throughput(result["student"]),
}


def groups(sweep: Sweep) -> list[Group]:
    """Return the groups that have a finished cell, sorted by their values; a sweep may still be running.

    Cells that were tested on different pictures are no group, whatever their settings.

    Raises:
        ValueError: predictions and result contradict each other.
    """
    together: dict[tuple[Any, ...], dict[int, tuple[Cell, str]]] = {}
    finished = [cell for cell in sweep.cells if cell.result]
    for cell, (test, val) in zip(finished, shown_to([cell.result for cell in finished]), strict=True):
        seeds = together.setdefault((test, *_values(cell, sweep.swept).items()), {})
        seeds.setdefault(cell.result["seed"], (cell, val))  # 4 and 4.0 are two cells and one run
    made = []
    for (test, *_), seeds in together.items():
        cells, val = zip(*(seeds[seed] for seed in sorted(seeds)), strict=True)
        made.append(replace(_group(cells, sweep), test=test, val=frozenset(val)))
    made.sort(key=lambda group: [order(value) for value in group.values.values()])
    return _corrected(made)


def claims(groups: Iterable[Group]) -> list[Group]:
    """Return the groups whose gains are claims of their own, which Holm's correction counts: with a twin, not the
    twin itself, and of several groups with the same runs the first."""
    first: dict[tuple[Path, ...], Group] = {}
    for group in groups:
        if group.gain and not group.own_twin:
            first.setdefault(group.runs, group)
    return list(first.values())


def picks(groups: Sequence[Group]) -> list[Group]:
    """Return what validation picks, ``best`` of all groups that were validated on the same pictures: one group, or one
    for each test set and each validation set (``data.seed``, ``data.val_fraction``)."""
    parts: list[tuple[set[tuple[str, str]], list[Group]]] = []
    for group in groups:
        own = {(group.test, val) for val in group.val}  # several where the split goes by the seed
        joined = [part for part in parts if part[0] & own]
        parts = [part for part in parts if part not in joined]
        parts.append((own.union(*(shown for shown, _ in joined)), [*(g for _, more in joined for g in more), group]))
    return [best(part) for _, part in parts]


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """``["kd=hinton", "kd.temperature=4,kd.alpha=0.9"]`` by name; a comma divides only where a setting follows it.

    Raises:
        ValueError: a text that names no setting or no value, or a setting twice.
    """
    found = {}
    for text in texts:
        for one in re.split(r",(?=[^=,\[\]{}]+=)", text):
            name, equals, value = one.strip().partition("=")
            if not (name and equals and value):
                raise ValueError(f"{one!r} says not which setting has which value, as kd=hinton does")
            if name in found:
                raise ValueError(f"{name} is given twice, and a reference is one group")
            found[name] = parse_value(value)
    return found


def matching(groups: Sequence[Group], wanted: Mapping[str, Any]) -> Group:
    """Return the one group whose swept values hold all of ``wanted``; of several with the same runs the first.

    Raises:
        ValueError: no group, or several; with what there is.
    """
    names = list(dict.fromkeys(name for group in groups for name in group.values))
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} was not swept; what was: {', '.join(names) or 'nothing but the seed'}")
    there = [group for group in groups if has(group, wanted)]
    words = ", ".join(f"{name}={format_value(value)}" for name, value in wanted.items())
    if not there:
        values = {name: list(map(format_value, distinct(groups, name))) for name in wanted}
        pairs = [(format_value(value), values[name]) for name, value in wanted.items()]
        hint = did_you_mean(*pairs[0], most=1) if len(pairs) == 1 else ""
        known = "; ".join(f"{name}={','.join(texts)}" for name, texts in values.items())
        raise ValueError(f"no finished cell of the sweep has {words}. There is {known}{hint}")
    if len({group.runs for group in there}) > 1:
        others = [name for name in names if name not in wanted and len(distinct(there, name)) > 1]
        open_ = "; ".join(f"{name}={','.join(map(format_value, distinct(there, name)))}" for name in others)
        raise ValueError(f"{len(there)} groups have {words}: say which one is meant, by {open_}")
    return there[0]


def has(group: Group, wanted: Mapping[str, Any]) -> bool:
    """Whether a group has these values, as tables write them: you can type what you read there."""
    own = {name: format_value(value) for name, value in group.values.items()}
    return all(own.get(name) == format_value(value) for name, value in wanted.items())


def compared(groups: Iterable[Group], reference: Group) -> dict[tuple[Path, ...], Difference]:
    """Return by ``Group.runs`` what each group's student has over the reference's, which is there too, with itself.

    Paired by seed and by test picture, tested as ``Gain`` says, corrected for all groups compared (those with the same
    runs once). A group without a seed of the reference's, or without predictions on disk, is left out.

    Raises:
        FileNotFoundError: predictions of the reference are missing.
        ValueError: a group was tested on other pictures than the reference.
    """
    target, _ = _predictions(reference.cells[0], "student")

    def students(cells: Iterable[Cell]) -> list[np.ndarray]:
        made = []
        for cell in cells:
            pictures, logits = _predictions(cell, "student")
            if not np.array_equal(pictures, target):  # though their results say otherwise
                raise ValueError(
                    f"{cell.run.name} and {reference.runs[0].name} were tested on different pictures (predictions.npz: "
                    "target), so their students cannot be compared picture by picture."
                )
            made.append(logits)
        return made

    theirs = dict(zip(reference.seeds, students(reference.cells), strict=True))
    found = {reference.runs: Difference(spread([0.0] * len(theirs)), None)}
    for group in groups:
        if group.test != reference.test:  # labels may be the same in the same order
            raise ValueError(
                f"{group.runs[0].name} and {reference.runs[0].name} were tested on different pictures "
                "(result.json: data.content), so their students cannot be compared."
            )
        common = [cell for cell in group.cells if cell.result["seed"] in theirs]
        if group.runs in found or not common:
            continue
        try:
            ours = students(common)
        except FileNotFoundError:
            continue
        others = [theirs[cell.result["seed"]] for cell in common]
        student, other = (np.array([logits.argmax(1) == target for logits in each]) for each in (ours, others))
        gain = None
        if not all(map(np.array_equal, ours, others)):
            gain = _chance(student, other, lambda ours=ours, others=others: mcnemar(ours[0], others[0], target))
        found[group.runs] = Difference(spread(student.mean(1) - other.mean(1)), gain)
    tested = {runs: each.gain for runs, each in found.items() if each.gain}
    for (runs, gain), p in zip(tested.items(), holm([gain.p for gain in tested.values()]), strict=True):
        found[runs] = replace(found[runs], gain=replace(gain, p_holm=float(p), significant=bool(p < LEVEL)))
    return found


def best(groups: Sequence[Group]) -> Group:
    """Return the group of the highest mean of what validation picks by; of equals the first in the order of the values.

    While a sweep runs, a group of one lucky seed may lead: ``metrics["val_accuracy"].n`` tells.

    Raises:
        ValueError: there is no group.
    """
    if not groups:
        raise ValueError("no cell of the sweep has finished, so there is no best one yet")
    by = f"val_{picking(groups)}"
    return max(groups, key=lambda group: group.metrics[by].mean)  # max returns the first of equals


def picking(groups: Iterable[Group]) -> str:
    """The measure by which validation picks, of kd.tables.PICKS: that of all cells (train.pick_by), else accuracy."""
    found = {picked_by(cell.result["student"]["training"]) for group in groups for cell in group.cells}
    return found.pop() if len(found) == 1 else "accuracy"


def distinct(groups: Iterable[Group], name: str) -> list[Any]:
    """Return the values of one swept setting: numbers by size, then text by the alphabet."""
    return sorted({group.values[name] for group in groups if name in group.values}, key=order)


def cell_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Return one row a cell, finished or not: plain values, None for what is not known (yet).

    Columns: number (from 1), status, every swept setting under its name (by ``number_or_text``), the METRICS of that
    one run, ``mcnemar_p`` (student against twin), ``test_set`` (rows of another are not to be compared),
    ``seconds`` of the job, ``run`` (folder, from the sweep's), ``command`` (runs this cell alone) and ``error``.
    """
    names = list(dict.fromkeys(name for cell in sweep.cells for name in _values(cell, sweep.swept, seed=True)))
    finished = [cell for cell in sweep.cells if cell.result]
    pictures = iter(shown_to([cell.result for cell in finished]))
    rows = []
    for number, cell in enumerate(sweep.cells, 1):
        values = _values(cell, sweep.swept, seed=True)
        row = {"number": number, "status": cell.status}
        row |= {name: number_or_text(values[name]) if name in values else None for name in names}
        row |= {name: take(cell.result) if cell.result else None for name, take in METRICS.items()}
        row["mcnemar_p"] = cell.result["comparison"]["mcnemar_p"] if cell.result else None
        row["test_set"] = next(pictures)[0][:SHORT] if cell.result else None
        row["seconds"] = cell.seconds
        row["run"] = Path(os.path.relpath(cell.run, sweep.folder)).as_posix() if cell.run else None
        row["command"] = shlex.join(["python", "-m", "kd.run", *_alone(sweep.fixed), *_alone(cell.overrides)])
        rows.append({**row, "error": cell.error})
    return rows


def spread(values: Iterable[float | None]) -> Spread:
    """Mean and standard deviation (n - 1) of the values that are known."""
    known = np.array([value for value in values if value is not None], dtype=float)
    mean = float(known.mean()) if known.size else math.nan
    return Spread(mean, float(known.std(ddof=1)) if known.size > 1 else math.nan, known.size)


def _group(cells: Sequence[Cell], sweep: Sweep) -> Group:
    results = [cell.result for cell in cells]
    metrics = {name: spread(map(take, results)) for name, take in METRICS.items()}
    teachers = {result["settings"].get("teacher.seed"): result["teacher"]["accuracy"] for result in results}
    metrics["teacher_accuracy"] = spread(teachers.values())  # one teacher is not three because three students asked it
    own = [override for override in cells[0].overrides if key_of(override) != SEED]
    group = Group(_values(cells[0], sweep.swept), (*_alone(sweep.fixed), *_alone(own)), tuple(cells), metrics, None)
    if not all(result["baseline"] for result in results):
        return group
    try:
        student, twin, same = _right(cells)
    except FileNotFoundError:  # somebody made room: the gain is known (metrics), and cannot be tested
        return group
    if same:
        return replace(group, gain=Gain(0.0, 0.0, 0.0, 1.0, 1.0, False, len(cells)), own_twin=True)
    exact = results[0]["comparison"]["mcnemar_p"]  # the test that the run's own report shows
    return replace(group, gain=_chance(student, twin, lambda: exact))


def _chance(student: np.ndarray, other: np.ndarray, exact: Callable[[], float]) -> Gain:
    """The gain of one over the other, bool [S, N] where they are right, not yet corrected; ``exact`` p for one seed."""
    found = crossed_t(student, other) if len(student) > 1 else replace(paired_bootstrap(student, other), p=exact())
    return Gain(found.mean, found.low, found.high, found.p, math.nan, False, len(student))


def _predictions(cell: Cell, *names: str) -> list[np.ndarray]:
    """Return the targets [N], then the logits [N, K] of each network named."""
    path = cell.run / "predictions.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: without the predictions of a run its gain cannot be tested")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in ("target", *names) if name not in arrays.files]
        if missing:
            raise ValueError(f"{path} has no {', '.join(missing)}, which its result.json speaks of")
        return [arrays[name] for name in ("target", *names)]


def _right(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return where student and twin are right, each [S, N], and whether they are one network in every cell."""
    student, twin, same, first = [], [], [], None
    for cell in cells:
        target, logits, others = _predictions(cell, "student", "baseline")
        first = target if first is None else first
        if not np.array_equal(target, first):
            raise ValueError(
                f"{cells[0].run.name} and {cell.run.name} were tested on different pictures (predictions.npz: target), "
                "so they are no two seeds of one thing."
            )
        student.append(logits.argmax(1) == target)
        twin.append(others.argmax(1) == target)
        same.append(np.array_equal(logits, others))
    return np.array(student), np.array(twin), all(same)


def _corrected(groups: Sequence[Group]) -> list[Group]:
    p_holm: dict[tuple[Path, ...], float] = {}
    for test in {group.test for group in groups}:  # what another data set shows makes no claim here less likely
        made = claims(group for group in groups if group.test == test)
        adjusted = holm([group.gain.p for group in made])
        p_holm |= {group.runs: float(p) for group, p in zip(made, adjusted, strict=True)}
    result = []
    for group in groups:
        if group.gain and not group.own_twin:
            p = p_holm[group.runs]
            group = replace(group, gain=replace(group.gain, p_holm=p, significant=p < LEVEL))
        result.append(group)
    return result


def _values(cell: Cell, swept: Sequence[str], seed: bool = False) -> dict[str, Any]:
    """What was swept, in the order of the command, as the overrides say it: a shared run's settings name the
    temperature of the cell that made it."""
    order = {name: place for place, name in enumerate(swept)}
    texts = sorted(cell.values.items(), key=lambda item: order.get(item[0], len(order)))
    return {name: parse_value(text) for name, text in texts if seed or name != SEED}


def _alone(overrides: Iterable[str]) -> list[str]:
    """Leave out what speaks of the sweep and not of a run: its name, launchers and sweepers."""
    ours = ((key_of(override), format_override(override)) for override in overrides)
    return [override for key, override in ours if key != "sweep" and not key.startswith(("hydra.", "hydra/"))]


def _recovered(result: Mapping[str, Any]) -> float | None:
    """With a teacher that is no better than the twin there is nothing to recover, and the quotient misleads."""
    teacher, twin = result["teacher"], result["baseline"]
    return result["comparison"]["gain_recovered"] if twin and teacher["accuracy"] > twin["accuracy"] else None


def epoch_seconds(network: Mapping[str, Any]) -> float | None:
    """Of a network's training in result.json, validation included; None for one from a checkpoint."""
    about = network["training"]
    return about["seconds"] / about["epochs"] if about["epochs"] else None


def latencies(network: Mapping[str, Any]) -> list[float | None]:
    """Medians of a network of result.json, ms, the smallest batch first; None for one taken on a busy machine."""
    times = network["latency_ms"]
    ordered = sorted(times, key=lambda name: int(name.rpartition("_")[2]))
    return [times[batch]["p50"] if is_calm(network, batch) else None for batch in ordered]


def one_thread(network: Mapping[str, Any]) -> float | None:
    """Median latency of one image on one CPU thread, ms; None on an accelerator."""
    return latencies(network["one_thread"])[0] if network.get("one_thread") else None


def throughput(network: Mapping[str, Any]) -> float | None:
    """Images/s at the large batch; None where that was timed on a busy machine."""
    return network["throughput"] if latencies(network)[-1] is not None else None
