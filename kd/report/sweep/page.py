"""``report.md`` of a sweep: its text and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kd.report.run.page import place_figures
from kd.report.sweep.answer import REFUSED, answers, facts, failures, method, refusals, unfinished
from kd.report.sweep.captions import best_cell_section, best_cells, costs, left_out, not_shown, reading
from kd.report.sweep.names import signed
from kd.report.sweep.view import METRICS, Point, View
from kd.report.text import escape, is_finite, markdown_table
from kd.runtime.values import format_value

PAGE_ROWS = 200  # of the table in report.md; report.html and cells.csv hold them all
HEADINGS = {
    "maps": "Accuracy by setting",
    "curves": "Curves",
    "fronts": "Accuracy against cost",
    "best": "The cell that validation picked",
    "cells": "All cells",
    "method": "How it was measured",
}


def page(
    shown: Sequence[View],
    found: Sequence[Sequence[Point]],
    figures: Mapping[str, str],
    combinations: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """Return the text of ``report.md``.

    Args:
        shown: the view of each data set. found: the points of each. combinations: the table of each, as markdown.
        figures: name -> alt text of the figures that exist.
        rows: ``kd.report.sweep.aggregate.cell_rows`` of all cells.

    Raises:
        ValueError: a figure has no place on the page.
    """
    sweep = shown[0].sweep
    parts = [f"# {escape(sweep.name)}"]
    parts += [f"**{escape(unfinished(sweep))}**"] if unfinished(sweep) else []
    parts += [*map(escape, answers(shown)), fenced(sweep.command)]
    summary = [{"": name, "what": value} for name, value in facts(shown)]
    parts.append(markdown_table(summary, left=("", "what")))
    if failures(sweep):
        failed = [{"overrides": line, "status": status, "error": error} for line, status, error in failures(sweep)]
        parts += ["Cells that failed:", markdown_table(failed, left=("overrides", "status", "error"))]
    if refusals(sweep):
        refused = [{"overrides": line, "cells": cells, "why": why} for line, cells, why in refusals(sweep)]
        parts += [REFUSED, markdown_table(refused, left=("overrides", "why"))]
    for each, its_points, table in zip(shown, found, combinations, strict=True):
        parts += _of_a_data_set(each, its_points, figures, table) if each.picks else []
    parts += [f"## {HEADINGS['cells']}", "To sort, filter or copy them: [report.html](report.html)."]
    parts += [
        "All numbers: [cells.csv](cells.csv).",
        cell_table(rows, sweep.swept, sweep.folder) if rows else "No cell has begun yet.",
    ]
    parts += [f"## {HEADINGS['method']}", "\n".join(f"- {escape(note)}" for note in method(shown))]
    return place_figures("\n\n".join(parts) + "\n", figures)


def heading(shown: View, name: str) -> str:
    """Return the heading of a section, after the name of the data set if there are several."""
    words = HEADINGS[name]
    if name == "best" and len(shown.picks) > 1:
        words = words.replace("The cell", "The cells")
    return f"{shown.data}: {words[0].lower()}{words[1:]}" if shown.data else words


def drawn(shown: View) -> list[str]:
    """Return the names of all figures that a data set may have on the pages, as the first data set names them."""
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
        words, merits, seeds = best_cell_section(shown, group)
        parts += [escape(words), markdown_table(merits, left=("metric", "better"))]
        parts += [markdown_table(seeds, left=("metric",))] if seeds else []
        parts += show(name)
    return [*parts, *_paragraph(not_shown(shown))]


def cell_table(rows: Sequence[Mapping[str, Any]], swept: Sequence[str], folder: Path) -> str:
    """Return all cells as markdown, or the first PAGE_ROWS of many."""
    swept = [name for name in swept if name in rows[0]]
    names = ("cell", *swept, "status", "accuracy (%)", "gain (points)", "report", "command")
    lines = [names, [":--" if name in ("status", "report", "command") else "--:" for name in names]]
    for row in rows[:PAGE_ROWS]:
        ended = is_finite(row["accuracy"])
        drawn = ended and (folder / row["run"] / "report.md").is_file()
        link = f"[report]({quote(row['run'])}/report.md)" if drawn else "–"
        numbers = (f"{100 * row['accuracy']:.2f}", signed(row["gain"])) if ended else ("–", "–")
        values = (escape(cell_text(row[name])) for name in swept)
        lines.append((str(row["number"]), *values, row["status"], *numbers, link, escape(row["command"])))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    more = len(rows) - PAGE_ROWS
    return table if more <= 0 else f"{table}\n\n{more:,} more cells are in [cells.csv](cells.csv)."


def cell_text(value: float | str | None) -> str:
    """Format a swept value of ``cell_rows``, where text is formatted already."""
    return "–" if value is None else value if isinstance(value, str) else format_value(value)


def fenced(text: str) -> str:
    """Return ``text`` as a block of code; it may contain backticks."""
    fence = "`" * max(3, 1 + max((len(run) for run in text.split() if set(run) == {"`"}), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _paragraph(text: str) -> list[str]:
    return [escape(text)] if text else []
