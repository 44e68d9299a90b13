"""Texts in and around the maps, fronts and tables of a sweep's report. Plain text: each document escapes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd.records.run_folder import PICKS, Rows
from kd.report.run.tables import comparison_rows, seeds_rows
from kd.report.sweep.aggregate import Group, picking
from kd.report.sweep.names import chance, group_name, many, signed
from kd.report.sweep.view import (
    METRICS,
    SLICES,
    Metric,
    Point,
    Slice,
    View,
    gain_over_baseline,
    mean,
    median_cell,
    one_cost,
)
from kd.report.text import is_finite, significant
from kd.runtime.values import format_value

MARK = "*"  # marks a gain that is more than noise after Holm's correction


def reading(shown: View) -> str:
    """Return how to read the maps."""
    if shown.kind == "scatter":
        return "A search left most of this grid empty, so each of its cells is a point at its settings."
    if shown.kind != "grid":
        return "Means over seeds, with one standard deviation, of student, baseline and teacher."
    words = "Means over seeds. Darker or fuller is better; the outlined cell is the one that validation picked."
    if shown.baselines:
        words += " Below each value is its difference from the baseline, for accuracy in points and with "
        words += f"{MARK} if it is more than noise after Holm's correction; the other measures were not tested."
        words += " In cells marked “baseline” the student learns from labels alone." if has_self_baseline(shown) else ""
    return words


def has_self_baseline(shown: View) -> bool:
    """Whether a student learns from labels alone, so that it is its own baseline."""
    return any(group.equals_baseline for group in shown.groups)


def left_out(shown: View) -> str:
    """Return which slices are not drawn; "" if all are."""
    if not shown.left_out:
        return ""
    return (
        f"{many(shown.left_out + len(shown.slices), 'slice')} of further settings are too many to draw. This is the "
        f"one with the picked cell ({shown.slices[0].title}). The table below has them all."
    )


def heat_text(group: Group | None, metric: Metric, state: str) -> list[str]:
    """Return the lines of a cell: the value and its difference from the baseline; for an empty cell its status."""
    if group is None:
        return [state] if state else [""]
    value = metric.scale * mean(group, metric.key)
    lines = [format(value, metric.form) if is_finite(value) else "–"]
    if metric.key == "accuracy":
        if group.equals_baseline:
            lines.append("baseline")  # as narrow as a gain with its mark, to fit into the narrowest map
        elif group.gain is not None:
            lines.append(signed(group.gain.mean) + (f" {MARK}" if group.gain.significant else ""))
    elif not group.equals_baseline and is_finite(difference := gain_over_baseline(group, metric.key)):
        lines.append(signed(difference, metric.scale, metric.form))
    return lines


def tooltip(group: Group | None, where: str, state: str) -> str:
    """Return all measures of a cell, one per line, with the gain and its p."""
    if group is None:
        return f"{where}: {state or 'not part of this sweep'}"
    lines = [where]
    for metric in METRICS:
        spread = group.metrics.get(metric.key)
        if spread is not None and is_finite(spread.mean):
            std = f" ± {metric.scale * spread.std:{metric.form}}" if is_finite(spread.std) else ""
            lines.append(f"{metric.title}: {metric.scale * spread.mean:{metric.form}}{std} ({spread.n})")
    if group.equals_baseline:
        lines.append("the student is the baseline: it learns from labels alone")
    elif group.gain is not None:
        gain = group.gain
        lines.append(f"gain: {signed(gain.mean)} points, {signed(gain.low)} to {signed(gain.high)}")
        lines.append(f"{chance(gain.p_holm)} after Holm" + (": more than noise" if gain.significant else ""))
    return "\n".join(lines)


def cell_location(shown: View, part: Slice, row: Any, column: Any) -> str:
    """Return ``T = 4, α = 0.9``, with the slice if there are several."""
    names = [f"{axis.name} = {format_value(v)}" for axis, v in ((shown.columns, column), (shown.rows, row)) if axis]
    return ", ".join([*names, part.title] if part.title else names)


def group_rows(shown: View) -> Rows:
    """Return one row per combination of settings, best validation first: all measures, intervals and p."""
    rows: Rows = []
    by = picking(shown.groups)
    first = Metric(f"val_{by}", "validation (%)" if by == "accuracy" else f"validation {PICKS[by]} (%)", 100, ".2f")
    for group in sorted(shown.groups, key=lambda group: -mean(group, first.key)):
        mark = " (picked)" if shown.picked(group) else ""
        row = {"settings": group_name(group.values) + mark, "seeds": str(len(group.cells))}
        for metric in (first, *METRICS):
            spread = group.metrics[metric.key]
            std = f" ± {metric.scale * spread.std:{metric.form}}" if is_finite(spread.std) else ""
            row[metric.title] = f"{metric.scale * spread.mean:{metric.form}}{std}" if is_finite(spread.mean) else "–"
        if shown.baselines:
            gain = None if group.equals_baseline else group.gain
            row["gain (points)"] = signed(gain.mean) if gain else "baseline" if group.equals_baseline else "–"
            row["95 % interval"] = f"{signed(gain.low)} to {signed(gain.high)}" if gain else "–"
            row["p after Holm"] = chance(gain.p_holm).removeprefix("p ").removeprefix("= ") if gain else "–"
            row["more than noise"] = ("yes" if gain.significant else "no") if gain else "–"
        rows.append(row)
    return rows


def costs(shown: View, found: Sequence[Point]) -> str:
    """Return how to read the fronts, or why there are none; "" without students."""
    students = [point for point in found if point.kind == "student"]
    if not students:
        return ""
    if one_cost(found):
        cost = students[0].costs
        time = f" and {significant(cost['latency_1'])} ms at batch 1, the mean of all measurements"
        return (
            "The swept settings change how students learn, not what they cost: "
            f"{many(len(students), 'student')}, each of {significant(cost['macs'])} million MACs, "
            f"{significant(cost['size_mb'])} MB"
            f"{time if is_finite(cost['latency_1']) else ''}. So there is no front among them, only the best student "
            "and the teacher."
        )
    return (
        "The line joins the networks that no other beats in both accuracy and cost. Networks of equal size and MACs "
        "share the mean of their measured latencies, which differ only by measurement noise."
    )


def best_cells(shown: View) -> list[tuple[str, Group]]:
    """Return the picked groups that have a table and confusion matrices, each with the name of its figure."""
    return [(f"confusions_{k}" if k > 1 else "confusions", group) for k, group in enumerate(shown.picks[:SLICES], 1)]


def best_cell_section(shown: View, best: Group) -> tuple[str, Rows, Rows]:
    """Return the text on a picked cell, its table (of one seed), and means over its seeds ([] for a single seed)."""
    cell, cells = median_cell(best), best.cells
    by = picking(shown.groups)
    val = cell.result["student"]["training"][f"best_val_{by}"]
    words = f"{group_name(best.values)}, which has the best mean validation {PICKS[by]} of all combinations"
    words += " that were validated on the same images" if len(shown.picks) > 1 else ""
    words += f" ({100 * value:.2f} %). " if is_finite(value := mean(best, f"val_{by}")) else ". "
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


def not_shown(shown: View) -> str:
    """Return how many picked cells have no section of their own; "" if each has one."""
    more = len(shown.picks) - len(best_cells(shown))
    return f"{many(more, 'more cell')} that validation picked: see the combinations of settings above." if more else ""
