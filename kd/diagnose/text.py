"""A diagnosis as text of the terminal."""

from __future__ import annotations

import textwrap

from kd.data.files import printable
from kd.diagnose.tables import Table, gained, tables
from kd.diagnose.verdict import Diagnosis

WIDTH = 100  # columns


def terminal(diagnosis: Diagnosis) -> str:
    """Return verdict, findings with the settings to try, tables and remarks."""
    parts = [f"{diagnosis.evidence.result['name']}\n\n{wrap(diagnosis.verdict)}"]
    for number, finding in enumerate(diagnosis.findings, 1):
        head = wrap(f"{number}. {finding.sentence}", "   ")
        parts.append("\n".join([head, *(f"   try: {setting}" for setting in finding.settings)]))
    if text := gained(diagnosis.figures):
        parts.append(wrap(text))
    parts += [render(table) for table in tables(diagnosis.figures)]
    parts += [wrap(remark) for remark in diagnosis.remarks]
    return "\n\n".join(parts)


def render(table: Table) -> str:
    """Return a table with aligned columns; the first is aligned left, numbers right."""
    columns = list(table.rows[0])
    cells = [columns, *([printable(row[column]) for column in columns] for row in table.rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    rule = "─" * max(map(len, lines))
    return "\n".join([table.title, rule, lines[0], rule, *lines[1:], rule, *([wrap(table.note)] if table.note else [])])


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    return [
        part.rjust(width) if k else part.ljust(width) for k, (part, width) in enumerate(zip(line, widths, strict=True))
    ]


def wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
