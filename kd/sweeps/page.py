"""What a sweep's report says, and ``report.md``. The sentences are plain text: each document escapes them its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kd.sweeps.grid import Group, axes, claims, picking
from kd.sweeps.ledger import Sweep
from kd.sweeps.view import (
    METRICS,
    Metric,
    Point,
    Slice,
    View,
    beyond_twin,
    mean,
    median_cell,
    name_of,
    one_cost,
    said,
)
from kd.tables import PICKS, Rows, comparison_rows, escape, known, markdown_table, seeds_rows, significant

MARK = "*"  # beside a gain that is more than noise after Holm's correction
PAGE_ROWS = 200  # of the table in report.md; report.html and cells.csv hold them all
HEADINGS = {
    "maps": "Accuracy by setting",
    "curves": "Curves",
    "fronts": "What the accuracy costs",
    "best": "The cell that validation picked",
    "cells": "All cells",
    "method": "How it was measured",
}


def signed(value: float, scale: float = 100, form: str = ".2f") -> str:
    """``+1.23`` with a real minus sign, so that columns of numbers line up."""
    return format(scale * value, f"+{form}").replace("-", "−") if known(value) else "–"


def chance(p: float | None) -> str:
    if not known(p):
        return "p unknown"
    return "p < 0.0001" if p < 1e-4 else f"p = {significant(p)}"


def many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


# --- head ----------------------------------------------------------------------------------------------------------


def progress(sweep: Sweep) -> str:
    """``18 of 20 cells finished (17 done, 1 found), 1 failed, 1 waiting``."""
    counts = {status: sweep.count(status) for status in ("done", "found", "running", "lost", "failed", "waiting")}
    counts["waiting"] += sweep.total - len(sweep.cells)
    ended = counts["done"] + counts["found"]
    detail = f" ({counts['done']} done, {counts['found']} found in the store)" if counts["found"] else ""
    rest = [f"{counts[status]} {status}" for status in ("running", "lost", "failed", "waiting") if counts[status]]
    return ", ".join([f"{ended:,} of {many(sweep.total, 'cell')} finished{detail}", *rest])


def unfinished(sweep: Sweep) -> str:
    """What a reader must know of a sweep that is not whole, else ""."""
    ended = sweep.count("done", "found")
    if ended == sweep.total:
        return ""
    words = f"This sweep is not finished: {progress(sweep)}. Every number below may still change."
    if sweep.count("lost"):
        words += " A lost cell's process ended without a word: it was killed, or the machine went down."
    if sweep.count("failed", "lost") and not sweep.count("running"):
        words += " Started again, the command runs only what is missing."
    return words


def failures(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Override line, status and error of each cell that failed or was lost."""
    wrong = [cell for cell in sweep.cells if cell.status in ("failed", "lost")]
    return [(" ".join(c.overrides), c.status, c.error or "its process ended without a word") for c in wrong]


def facts(shown: View) -> list[tuple[str, str]]:
    told = [("cells", progress(shown.sweep))]
    if shown.sweep.fixed:
        told.append(("same in all cells", " ".join(shown.sweep.fixed)))
    results = [cell.result for group in shown.groups for cell in group.cells]
    if not results:
        return told
    each = {
        "machine": [_machine(result["machine"]) for result in results],
        "data set": [_data(result["data"]) for result in results],
        "pictures": [_pictures(result["data"]) for result in results],
        "software": [f"torch {r['machine']['torch']}, Python {r['machine']['python']}" for r in results],
    }
    return told + [(name, "; ".join(dict.fromkeys(values))) for name, values in each.items()]


def _data(data: Mapping[str, Any]) -> str:
    return f"{data['name']}, {len(data['classes'])} classes, {data['image_size']}×{data['image_size']} pixels"


def _pictures(data: Mapping[str, Any]) -> str:
    return f"{data['train']:,} to train, {data['val']:,} to validate, {data['test']:,} to test"


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['device_name']} ({machine['device']}), {machine['threads']} threads, {machine['precision']}"


# --- the answer ----------------------------------------------------------------------------------------------------


def answer(shown: View) -> str:
    """Whether distillation gained more than noise, in two sentences."""
    group = shown.best
    if group is None:
        return "No cell is finished yet, so there is nothing to say."
    accuracy = f"{100 * mean(group, 'accuracy'):.2f} % on the test split"
    if group.gain is None:
        return (
            f"Validation picked {name_of(group.values)}: {accuracy}. It has no twin that was trained on labels alone, "
            "or the predictions are gone, so this sweep cannot say what distillation gained."
        )
    gain, tested = group.gain, claims(shown.groups)
    if group.own_twin:
        first = f"Validation picked {name_of(group.values)}, where the student learns from the labels alone: no "
        first += "combination of settings with a teacher did better there."
    else:
        did = "gained" if gain.mean >= 0 else "lost"
        holm = f"{chance(gain.p_holm)} after Holm's correction for {many(len(tested), 'comparison')}"
        verdict = "more than noise" if gain.significant else "not told apart from noise"
        interval = f"95 % interval {signed(gain.low)} to {signed(gain.high)}"
        first = (
            f"Validation picked {name_of(group.values)}. Distillation {did} {abs(100 * gain.mean):.2f} points there "
            f"over the same student on labels alone ({interval}, {many(gain.seeds, 'seed')}): {verdict}, {holm}."
        )
        if gain.seeds == 1:
            first += " With one seed that speaks of the draw of test pictures alone, not of how another seed would do."
    if any(name.split(".")[0] == "data" for name in axes(shown.groups)):
        first += (
            " Cells on different data were validated on different pictures: between them this picks the easier data."
        )
    up = sum(each.gain.significant and each.gain.mean > 0 for each in tested)
    down = sum(each.gain.significant and each.gain.mean < 0 for each in tested)
    second = f"Of {many(len(tested), 'tested combination')} of settings, {up} gained more than noise"
    second += f" and {down} lost more than noise." if down else "."
    return f"{first} {second}" if tested else first


# --- words beside the figures --------------------------------------------------------------------------------------


def reading(shown: View) -> str:
    """How the maps are read."""
    if shown.kind == "scatter":
        return "A search left most of this grid empty, so its cells are drawn where they lie."
    if shown.kind != "grid":
        return "Means over seeds, with one standard deviation; the student on labels alone and the teacher beside them."
    words = "Means over seeds. Darker or fuller is better; the outlined cell is the one that validation picked."
    if shown.twins:
        words += " Below each value: the difference from the student on labels alone"
        words += f", of accuracy in points, with {MARK} where it is more than noise after Holm's correction"
        words += "; the other measures were not tested."
        words += " Where it says “= twin”, the student learns from labels alone." if any_own(shown) else ""
    return words


def any_own(shown: View) -> bool:
    return any(group.own_twin for group in shown.groups)


def left_out(shown: View) -> str:
    """What is not drawn, said openly; "" where everything is."""
    if not shown.left_out:
        return ""
    return (
        f"{many(shown.left_out + len(shown.slices), 'slice')} of further settings would be too many to draw: this is "
        f"the one that holds the picked cell ({shown.slices[0].title}). The table below holds them all."
    )


def heat_text(group: Group | None, metric: Metric, state: str) -> list[str]:
    """The lines of a cell: the value, and the difference from the twin; what keeps an empty cell empty."""
    if group is None:
        return [state] if state else [""]
    value = metric.scale * mean(group, metric.key)
    lines = [format(value, metric.form) if known(value) else "–"]
    if metric.key == "accuracy":
        if group.own_twin:
            lines.append("= twin")
        elif group.gain is not None:
            lines.append(signed(group.gain.mean) + (f" {MARK}" if group.gain.significant else ""))
    elif not group.own_twin and known(beyond := beyond_twin(group, metric.key)):
        lines.append(signed(beyond, metric.scale, metric.form))
    return lines


def group_rows(shown: View) -> Rows:
    """One row a combination of settings, in the order of validation: what the maps show, with intervals and p."""
    rows: Rows = []
    by = picking(shown.groups)
    first = Metric(f"val_{by}", "validation (%)" if by == "accuracy" else f"validation {PICKS[by]} (%)", 100, ".2f")
    for group in sorted(shown.groups, key=lambda group: -mean(group, first.key)):
        row = {"settings": name_of(group.values), "seeds": str(len(group.cells))}
        for metric in (first, *METRICS):
            spread = group.metrics[metric.key]
            std = f" ± {metric.scale * spread.std:{metric.form}}" if known(spread.std) else ""
            row[metric.title] = f"{metric.scale * spread.mean:{metric.form}}{std}" if known(spread.mean) else "–"
        if shown.twins:
            gain = None if group.own_twin else group.gain
            row["gain (points)"] = signed(gain.mean) if gain else "= twin" if group.own_twin else "–"
            row["95 % interval"] = f"{signed(gain.low)} to {signed(gain.high)}" if gain else "–"
            row["p after Holm"] = chance(gain.p_holm).removeprefix("p ").removeprefix("= ") if gain else "–"
            row["more than noise"] = ("yes" if gain.significant else "no") if gain else "–"
        rows.append(row)
    return rows


def cell_table(rows: Sequence[Mapping[str, Any]], swept: Sequence[str], folder: Path) -> str:
    """All cells as markdown, or the first of very many."""
    swept = [name for name in swept if name in rows[0]]
    names = ("cell", *swept, "status", "accuracy (%)", "gain (points)", "report", "command")
    lines = [names, [":--" if name in ("status", "report", "command") else "--:" for name in names]]
    for row in rows[:PAGE_ROWS]:
        ended = known(row["accuracy"])
        drawn = ended and (folder / row["run"] / "report.md").is_file()
        link = f"[report]({quote(row['run'])}/report.md)" if drawn else "–"
        numbers = (f"{100 * row['accuracy']:.2f}", signed(row["gain"])) if ended else ("–", "–")
        values = (escape(said(row[name])) for name in swept)
        lines.append((str(row["number"]), *values, row["status"], *numbers, link, escape(row["command"])))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    more = len(rows) - PAGE_ROWS
    return table if more <= 0 else f"{table}\n\n{more:,} more cells are in [cells.csv](cells.csv)."


def tooltip(group: Group | None, where: str, state: str) -> str:
    if group is None:
        return f"{where}: {state or 'not part of this sweep'}"
    lines = [where]
    for metric in METRICS:
        spread = group.metrics.get(metric.key)
        if spread is not None and known(spread.mean):
            std = f" ± {metric.scale * spread.std:{metric.form}}" if known(spread.std) else ""
            lines.append(f"{metric.title}: {metric.scale * spread.mean:{metric.form}}{std} ({spread.n})")
    if group.own_twin:
        lines.append("the student is the twin: it learns from labels alone")
    elif group.gain is not None:
        gain = group.gain
        lines.append(f"gain: {signed(gain.mean)} points, {signed(gain.low)} to {signed(gain.high)}")
        lines.append(f"{chance(gain.p_holm)} after Holm" + (": more than noise" if gain.significant else ""))
    return "\n".join(lines)


def where_of(shown: View, part: Slice, row: Any, column: Any) -> str:
    names = [f"{axis.name} = {said(v)}" for axis, v in ((shown.columns, column), (shown.rows, row)) if axis]
    return ", ".join([*names, part.title] if part.title else names)


def costs(shown: View, found: Sequence[Point]) -> str:
    students = [point for point in found if point.kind == "student"]
    if not students:
        return ""
    if one_cost(found):
        cost = students[0].costs
        return (
            f"What was swept changes how students learn, not what they cost: {many(len(students), 'student')}, each of "
            f"{significant(cost['macs'])} million MACs, {significant(cost['size_mb'])} MB and "
            f"{significant(cost['latency_1'])} ms at batch 1, the mean of all measurements. So there is no front among "
            "them, only the best student beside the teacher."
        )
    return (
        "The line joins what nothing beats in both accuracy and cost. Networks of equal size and MACs share the mean "
        "of their measured latencies, whose differences are the clock's."
    )


def of_the_best(shown: View) -> tuple[str, Rows, Rows]:
    """Words on the picked cell, its teacher-student table (of one seed), and means over its seeds ([] for one seed)."""
    cell, cells = median_cell(shown.best), shown.best.cells
    by = picking(shown.groups)
    val = cell.result["student"]["training"][f"best_val_{by}"]
    words = f"{name_of(shown.best.values)}, which has the best mean validation {PICKS[by]} of all combinations"
    words += f" ({100 * value:.2f} %). " if known(value := mean(shown.best, f"val_{by}")) else ". "
    if len(cells) > 1:
        words += (
            f"The table is that of seed {cell.result['seed']}, the seed of median validation {PICKS[by]} "
            f"({100 * val:.2f} %) among {len(cells)}; below it, means over the seeds."
        )
    else:
        words += f"It has one finished seed, {cell.result['seed']}."
    seeds: Rows = []
    if len(cells) > 1:
        try:
            seeds = seeds_rows([each.result for each in cells])
        except ValueError as error:
            words += f" There is no mean over seeds: {error}."
    return words, comparison_rows(cell.result), seeds


def method(shown: View) -> list[str]:
    """Notes on the test, on what was picked how, and on the clock."""
    compared = [
        "A cell's student and its twin share the seed, so the same initial weights, order of pictures and views; the "
        "twin learns from the labels alone. The gain is the mean over seeds of how much their test accuracies differ.",
        "With two seeds and more the interval and p are of a t test on these differences in which both the seeds and "
        "the test pictures are chance; two seeds are too few for it. With one seed, the interval is of a "
        "bootstrap over test pictures and p of McNemar's exact test: they say nothing of other seeds.",
        "Many combinations give chance many attempts. Holm's correction is to keep the chance of any false alarm among "
        "all that were tested at 5 %; with three seeds that differ by more than a point and a half it was up to 9 % in "
        f"simulations. Tested were {len(claims(shown.groups))}: those with a twin, the same runs once, and "
        "none whose student is the twin itself (α = 0).",
    ]
    notes = [
        *(compared if shown.twins else []),
        f"The cell was picked by the mean validation {PICKS[picking(shown.groups)]} over its seeds; the test split had "
        "no say in it. The "
        "highest test accuracy in the map may therefore be another cell's, and would be too rosy a number to quote. "
        "The fronts are drawn on test accuracy: they describe, and pick nothing.",
        "± is one standard deviation over seeds (n − 1), with the number of seeds behind it in parentheses.",
        "A cell that the sweep found was computed before, by this sweep or another, from the same settings. At α = 0 "
        "the temperature does not matter: all those cells are one run.",
    ]
    result = shown.result
    if result is not None:
        machine = result["machine"]
        notes.append(
            f"Latency is the median over repeated passes of the network alone, in float32 and evaluation mode, on "
            f"{machine['device_name']} ({machine['device']}) with {machine['threads']} threads. A network is timed "
            "once on each machine, and all cells share that number: if the machine was busy then, it is off for all. "
            "MACs and size are exact. MB are 2^20 bytes."
        )
    return notes


# --- report.md -----------------------------------------------------------------------------------------------------


def page(
    shown: View,
    found: Sequence[Point],
    figures: Mapping[str, str],
    combinations: str,
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """Return report.md.

    Args:
        figures: name -> alt text, of the figures that exist. combinations: their table, as markdown.
        rows: of all cells, ``kd.sweeps.grid.cell_rows``.
    """
    sweep = shown.sweep

    def show(*wanted: str) -> list[str]:
        return [f"![{escape(figures[name])}](figures/{name}.png)" for name in wanted if name in figures]

    parts = [f"# {escape(sweep.name)}"]
    parts += [f"**{escape(unfinished(sweep))}**"] if unfinished(sweep) else []
    parts += [escape(answer(shown)), fenced(sweep.command)]
    told = [{"": name, "what": value} for name, value in facts(shown)]
    parts.append(markdown_table(told, left=("", "what")))
    if failures(sweep):
        wrong = [{"overrides": line, "status": status, "error": error} for line, status, error in failures(sweep)]
        parts += ["Cells that failed:", markdown_table(wrong, left=("overrides", "status", "error"))]
    if shown.best is not None:
        parts += [f"## {HEADINGS['maps']}", escape(reading(shown)), *_paragraph(left_out(shown))]
        parts += show("accuracy", "nll", "ece", "agreement")
        parts += ["Combinations of settings:", combinations]
        if "curves" in figures:
            parts += [f"## {HEADINGS['curves']}", *show("curves")]
        if "fronts" in figures:
            parts += [f"## {HEADINGS['fronts']}", escape(costs(shown, found)), *show("fronts")]
        words, table, seeds = of_the_best(shown)
        parts += [f"## {HEADINGS['best']}", escape(words), markdown_table(table, left=("metric", "better"))]
        parts += [markdown_table(seeds, left=("metric",))] if seeds else []
        parts += show("confusions")
    parts += [f"## {HEADINGS['cells']}", "Sorted, filtered and copied from: [report.html](report.html)."]
    parts += [
        "All numbers: [cells.csv](cells.csv).",
        cell_table(rows, sweep.swept, sweep.folder) if rows else "None has begun.",
    ]
    parts += [f"## {HEADINGS['method']}", "\n".join(f"- {escape(note)}" for note in method(shown))]
    return "\n\n".join(parts) + "\n"


def fenced(text: str) -> str:
    """``text`` as a block of code, whatever backticks it holds."""
    fence = "`" * max(3, 1 + max((len(run) for run in text.split() if set(run) == {"`"}), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _paragraph(text: str) -> list[str]:
    return [escape(text)] if text else []
