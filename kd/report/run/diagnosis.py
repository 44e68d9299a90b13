"""The section of ``report.md`` that says whether the teacher teaches."""

from __future__ import annotations

from collections.abc import Sequence

from kd.diagnose.figures import Figures
from kd.diagnose.tables import Table, by_class, gained, percent, tables
from kd.diagnose.verdict import Diagnosis
from kd.report.text import escape, markdown_table

TITLES = {True: "## Does the teacher teach?", False: "## Does the method help?"}


def section(diagnosis: Diagnosis, figures: Sequence[str]) -> list[str]:
    """Return the paragraphs: verdict, what limits the run and what to try, figure, tables, remarks.

    Args:
        figures: links to the figures of this section.
    """
    numbered = "\n".join(
        f"{number}. {escape(finding.sentence)}{_tried(finding.settings)}"
        for number, finding in enumerate(diagnosis.findings, 1)
    )
    folded = by_class(diagnosis.figures)
    shown = [table for table in tables(diagnosis.figures) if table != folded]
    title = TITLES[bool(diagnosis.figures["answers"])]
    parts = [title, escape(diagnosis.verdict), numbered, escape(gained(diagnosis.figures)), *figures]
    parts += [text for table in shown for text in _table(table)]
    if folded:
        summary = f"<details><summary>{folded.title}</summary>"
        parts.append(f"{summary}\n\n{_rows(folded)}\n\n</details>")
    return list(filter(None, [*parts, *map(escape, diagnosis.remarks)]))


def _tried(settings: Sequence[str]) -> str:
    return f" Try {' or '.join(f'`{setting}`' for setting in settings)}." if settings else ""


def _table(table: Table) -> list[str]:
    return [f"{escape(table.title)}:", _rows(table), escape(table.note)]


def _rows(table: Table) -> str:
    return markdown_table(table.rows, left=(next(iter(table.rows[0])), "term"))


def panels_text(figures: Figures) -> str:
    """Return the alt text of the figure of this section."""
    scores = figures["accuracy"]
    said = [f"{role} {percent(of['views'])} and {percent(of['test'])} %" for role, of in scores.items()]
    return f"Accuracy on training views and on test images: {'; '.join(said)}. {gained(figures)}".strip()
