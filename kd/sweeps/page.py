"""What a sweep's report says, and ``report.md``. The sentences are plain text: each document escapes them its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kd.page import placed
from kd.runtime.values import format_override, format_value
from kd.sweeps.grid import Group, claims, picking
from kd.sweeps.ledger import Sweep
from kd.sweeps.names import name_of
from kd.sweeps.view import (
    METRICS,
    SLICES,
    Metric,
    Point,
    Slice,
    View,
    beyond_twin,
    mean,
    median_cell,
    one_cost,
)
from kd.tables import PICKS, Rows, comparison_rows, escape, is_calm, known, markdown_table, seeds_rows, significant

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
    silent = "its process ended without a word"
    return [(" ".join(map(format_override, cell.overrides)), cell.status, cell.error or silent) for cell in wrong]


def facts(shown: Sequence[View]) -> list[tuple[str, str]]:
    sweep = shown[0].sweep
    told = [("cells", progress(sweep))]
    if sweep.fixed:
        told.append(("same in all cells", " ".join(map(format_override, sweep.fixed))))
    results = [cell.result for each in shown for group in each.groups for cell in group.cells]
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


def answers(shown: Sequence[View]) -> list[str]:
    """A paragraph on each data set, and before those of several what keeps them apart."""
    if len(shown) == 1:
        return [answer(shown[0])]
    told = f"This sweep was tested on {len(shown)} data sets ({'; '.join(each.data for each in shown)}). Accuracies of "
    told += "different pictures do not compare: validation picks, and significance is corrected, within each of them."
    return [told, *(f"{each.data}: {answer(each)}" for each in shown)]


def answer(shown: View) -> str:
    """Whether distillation gained more than noise, in two sentences."""
    if not shown.picks:
        return "No cell is finished yet, so there is nothing to say."
    tested = claims(shown.groups)
    first = " ".join(_of_a_pick(group, len(tested)) for group in shown.picks)
    if len(shown.picks) > 1:
        first = (
            f"The cells were validated on {len(shown.picks)} sets of pictures, whose accuracies do not compare, so "
            f"validation picked one cell for each. {first}"
        )
    up = sum(each.gain.significant and each.gain.mean > 0 for each in tested)
    down = sum(each.gain.significant and each.gain.mean < 0 for each in tested)
    second = f"Of {many(len(tested), 'tested combination')} of settings, {up} gained more than noise"
    second += f" and {down} lost more than noise." if down else "."
    return f"{first} {second}" if tested else first


def _of_a_pick(group: Group, tested: int) -> str:
    accuracy = f"{100 * mean(group, 'accuracy'):.2f} % on the test split"
    if group.gain is None:
        return (
            f"Validation picked {name_of(group.values)}: {accuracy}. It has no twin that was trained on labels alone, "
            "or the predictions are gone, so this sweep cannot say what distillation gained."
        )
    gain = group.gain
    if group.own_twin:
        first = f"Validation picked {name_of(group.values)}, where the student learns from the labels alone: no "
        first += "combination of settings with a teacher did better there."
    else:
        did = "gained" if gain.mean >= 0 else "lost"
        holm = f"{chance(gain.p_holm)} after Holm's correction for {many(tested, 'comparison')}"
        verdict = "more than noise" if gain.significant else "not told apart from noise"
        interval = f"95 % interval {signed(gain.low)} to {signed(gain.high)}"
        first = (
            f"Validation picked {name_of(group.values)}. Distillation {did} {abs(100 * gain.mean):.2f} points there "
            f"over the same student on labels alone ({interval}, {many(gain.seeds, 'seed')}): {verdict}, {holm}."
        )
        if gain.seeds == 1:
            first += " With one seed that speaks of the draw of test pictures alone, not of how another seed would do."
    return first


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
        mark = " (picked)" if shown.picked(group) else ""
        row = {"settings": name_of(group.values) + mark, "seeds": str(len(group.cells))}
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
        values = (escape(cell_text(row[name])) for name in swept)
        lines.append((str(row["number"]), *values, row["status"], *numbers, link, escape(row["command"])))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    more = len(rows) - PAGE_ROWS
    return table if more <= 0 else f"{table}\n\n{more:,} more cells are in [cells.csv](cells.csv)."


def cell_text(value: float | str | None) -> str:
    """A swept value of ``cell_rows``, of which text is said already."""
    return "–" if value is None else value if isinstance(value, str) else format_value(value)


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
    names = [f"{axis.name} = {format_value(v)}" for axis, v in ((shown.columns, column), (shown.rows, row)) if axis]
    return ", ".join([*names, part.title] if part.title else names)


def costs(shown: View, found: Sequence[Point]) -> str:
    students = [point for point in found if point.kind == "student"]
    if not students:
        return ""
    if one_cost(found):
        cost = students[0].costs
        time = f" and {significant(cost['latency_1'])} ms at batch 1, the mean of all measurements"
        return (
            f"What was swept changes how students learn, not what they cost: {many(len(students), 'student')}, each of "
            f"{significant(cost['macs'])} million MACs, {significant(cost['size_mb'])} MB"
            f"{time if known(cost['latency_1']) else ''}. So there is no front among them, only the best student "
            "beside the teacher."
        )
    return (
        "The line joins what nothing beats in both accuracy and cost. Networks of equal size and MACs share the mean "
        "of their measured latencies, whose differences are the clock's."
    )


def best_cells(shown: View) -> list[tuple[str, Group]]:
    """The picked groups of which tables and matrices are shown, each with the name of its figure."""
    return [(f"confusions_{k}" if k > 1 else "confusions", group) for k, group in enumerate(shown.picks[:SLICES], 1)]


def not_shown(shown: View) -> str:
    more = len(shown.picks) - len(best_cells(shown))
    return f"{many(more, 'more cell')} that validation picked: see the combinations of settings above." if more else ""


def of_the_best(shown: View, best: Group) -> tuple[str, Rows, Rows]:
    """Words on a picked cell, its teacher-student table (of one seed), and means over its seeds ([] for one seed)."""
    cell, cells = median_cell(best), best.cells
    by = picking(shown.groups)
    val = cell.result["student"]["training"][f"best_val_{by}"]
    words = f"{name_of(best.values)}, which has the best mean validation {PICKS[by]} of all combinations"
    words += " that were validated on the same pictures" if len(shown.picks) > 1 else ""
    words += f" ({100 * value:.2f} %). " if known(value := mean(best, f"val_{by}")) else ". "
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


def method(shown: Sequence[View]) -> list[str]:
    """Notes on the test, on what was picked how, and on the clock."""
    tested = " and ".join(str(len(claims(each.groups))) for each in shown)
    compared = [
        "A cell's student and its twin share the seed, so the same initial weights, order of pictures and views; the "
        "twin learns from the labels alone. The gain is the mean over seeds of how much their test accuracies differ.",
        "With two seeds and more the interval and p are of a t test on these differences in which both the seeds and "
        "the test pictures are chance; two seeds are too few for it. With one seed, the interval is of a "
        "bootstrap over test pictures and p of McNemar's exact test: they say nothing of other seeds.",
        "Many combinations give chance many attempts. Holm's correction is to keep the chance of any false alarm among "
        "all that were tested at 5 %; with three seeds that differ by more than a point and a half it was up to 9 % in "
        f"simulations. Tested were {tested}: those with a twin, the same runs once, and "
        "none whose student is the twin itself (α = 0).",
    ]
    measure = PICKS[picking(group for each in shown for group in each.groups)]
    notes = [
        *(compared if any(each.twins for each in shown) else []),
        *(["Data sets are told apart by the content of the test split: pixels, labels, order."] if shown[1:] else []),
        f"The cell was picked by the mean validation {measure} over its seeds; the test split had no say in it. The "
        "highest test accuracy in the map may therefore be another cell's, and would be too rosy a number to quote. "
        "The fronts are drawn on test accuracy: they describe, and pick nothing.",
        "± is one standard deviation over seeds (n − 1), with the number of seeds behind it in parentheses.",
        "A cell that the sweep found was computed before, by this sweep or another, from the same settings. At α = 0 "
        "the temperature does not matter: all those cells are one run.",
    ]
    result = shown[0].result
    if result is not None:
        machine = result["machine"]
        notes.append(
            f"Latency is the median over repeated passes of the network alone, in float32 and evaluation mode, on "
            f"{machine['device_name']} ({machine['device']}) with {machine['threads']} threads. A network is timed "
            "once on each machine, and all cells share that number. MACs and size are exact. MB are 2^20 bytes."
        )
        cells = [cell for each in shown for group in each.groups for cell in group.cells]
        busy = sum(not is_calm(cell.result["student"]) for cell in cells)
        if busy:
            notes.append(
                f"{many(busy, 'cell')} timed the student while something else used the machine, or do not say that "
                "nothing did: such latencies and throughputs are left out (–) and stand on no front. When the machine "
                "is idle, the same command finds the cells and times them again."
            )
    return notes


# --- report.md -----------------------------------------------------------------------------------------------------


def page(
    shown: Sequence[View],
    found: Sequence[Sequence[Point]],
    figures: Mapping[str, str],
    combinations: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """Return report.md.

    Args:
        shown: of each data set. found: the points of each. combinations: the table of each, as markdown.
        figures: name -> alt text, of the figures that exist.
        rows: of all cells, ``kd.sweeps.grid.cell_rows``.

    Raises:
        ValueError: a figure that has no place on the page.
    """
    sweep = shown[0].sweep
    parts = [f"# {escape(sweep.name)}"]
    parts += [f"**{escape(unfinished(sweep))}**"] if unfinished(sweep) else []
    parts += [*map(escape, answers(shown)), fenced(sweep.command)]
    told = [{"": name, "what": value} for name, value in facts(shown)]
    parts.append(markdown_table(told, left=("", "what")))
    if failures(sweep):
        wrong = [{"overrides": line, "status": status, "error": error} for line, status, error in failures(sweep)]
        parts += ["Cells that failed:", markdown_table(wrong, left=("overrides", "status", "error"))]
    for each, its_points, table in zip(shown, found, combinations, strict=True):
        parts += _of_a_data_set(each, its_points, figures, table) if each.picks else []
    parts += [f"## {HEADINGS['cells']}", "Sorted, filtered and copied from: [report.html](report.html)."]
    parts += [
        "All numbers: [cells.csv](cells.csv).",
        cell_table(rows, sweep.swept, sweep.folder) if rows else "None has begun.",
    ]
    parts += [f"## {HEADINGS['method']}", "\n".join(f"- {escape(note)}" for note in method(shown))]
    return placed("\n\n".join(parts) + "\n", figures)


def heading(shown: View, name: str) -> str:
    words = HEADINGS[name]
    if name == "best" and len(shown.picks) > 1:
        words = words.replace("The cell", "The cells")
    return f"{shown.data}: {words[0].lower()}{words[1:]}" if shown.data else words


def drawn(shown: View) -> list[str]:
    """The figures of a data set that the pages have a place for, by the names that the first set's have."""
    return [*(metric.key for metric in METRICS), "curves", "fronts", *(name for name, _ in best_cells(shown))]


def _of_a_data_set(shown: View, found: Sequence[Point], figures: Mapping[str, str], table: str) -> list[str]:
    def show(*wanted: str) -> list[str]:
        named = [shown.named(name) for name in wanted]
        return [f"![{escape(figures[name])}](figures/{name}.png)" for name in named if name in figures]

    parts = [f"## {escape(heading(shown, 'maps'))}", escape(reading(shown)), *_paragraph(left_out(shown))]
    parts += [*show(*(metric.key for metric in METRICS)), "Combinations of settings:", table]
    if curves := show("curves"):
        parts += [f"## {escape(heading(shown, 'curves'))}", *curves]
    if fronts := show("fronts"):
        parts += [f"## {escape(heading(shown, 'fronts'))}", escape(costs(shown, found)), *fronts]
    parts.append(f"## {escape(heading(shown, 'best'))}")
    for name, group in best_cells(shown):
        words, merits, seeds = of_the_best(shown, group)
        parts += [escape(words), markdown_table(merits, left=("metric", "better"))]
        parts += [markdown_table(seeds, left=("metric",))] if seeds else []
        parts += show(name)
    return [*parts, *_paragraph(not_shown(shown))]


def fenced(text: str) -> str:
    """``text`` as a block of code, whatever backticks it holds."""
    fence = "`" * max(3, 1 + max((len(run) for run in text.split() if set(run) == {"`"}), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _paragraph(text: str) -> list[str]:
    return [escape(text)] if text else []
