"""Format entries for a terminal, as markdown and as JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kd.report.text import escape
from kd.zoo.groups import Group
from kd.zoo.options import MISSING, Entry

WIDTH = 120
RULE = "─" * WIDTH
NUMBER = re.compile(r"[-\d.,]+|–|any|as found")


def format_default(value: Any) -> str:
    """Format a value for the command line: true, null, [-2,-1], [{student:tiny_cnn,width:3}]."""
    if isinstance(value, str) and ("${" in value or value == MISSING):
        return value
    text = yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()[1:-1]
    return text.replace(", ", ",").replace(": ", ":") if isinstance(value, list | dict) else text


def choices(entry: Entry) -> list[str]:
    """Return ``name=default`` of an entry's settings, without those that follow from others or that all have."""
    own = (item for item in entry.settings.items() if item[0].partition(".")[0] not in entry.common)
    free = [(key, value) for key, value in own if "${" not in str(value)]
    return [f"{key}={format_default(value)}" for key, value in (*free, *entry.elsewhere.items())]


def columns(found: Sequence[Entry]) -> list[str]:
    return list(max((entry.cells for entry in found), key=len))


def numeric(found: Sequence[Entry], column: str) -> bool:
    return all(NUMBER.fullmatch(entry.cells.get(column) or "–") for entry in found)


def terminal(found: Sequence[Entry], group: Group) -> str:
    """Format a table, 120 columns wide, with a line for each family."""
    extra = columns(found)
    widths = [max(len(entry.name) for entry in found) + 2, *(breadth(found, column) for column in extra)]
    rest = WIDTH - sum(widths) - 2 * len(widths) - 2
    longest = max((len(choice) for entry in found for choice in choices(entry)), default=0)
    settings = min(max(longest, rest // 2 - 1), 2 * rest // 3)
    widths += [settings, rest - settings]

    def more(entry: Entry) -> list[list[str]]:
        paper, source = entry.paper, widths[-1]
        lines = [*wrapped(str(paper), source), paper.link] if paper else textwrap.wrap(entry.about, source)
        return [packed(choices(entry), settings), lines]

    return lay_out(found, [group.noun, *extra, "settings and defaults", group.source], widths, more)


def overview(found: Sequence[Entry], group: Group) -> str:
    """Format a table with one line for each entry: its description and its numbers."""
    extra = columns(found)
    widths = [max(len(entry.name) for entry in found) + 2, *(breadth(found, column, 0) for column in extra)]
    widths.append(WIDTH - sum(widths) - 2 * len(widths))

    def more(entry: Entry) -> list[list[str]]:
        paper = entry.paper
        tail = f" ({paper.authors} {paper.year})" if paper else ""
        return [[cut(paper.title if paper else entry.about, widths[-1] - len(tail)) + tail]]

    return lay_out(found, [group.noun, *extra, group.source], widths, more)


def breadth(found: Sequence[Entry], column: str, most: int = 24) -> int:
    """Return the width of ``column``; text longer than ``most`` breaks between words, with 0 never."""
    cells = [entry.cells.get(column, "") for entry in found]
    whole = max(map(len, cells))
    widest = whole if numeric(found, column) or whole <= most or not most else 0
    return max([widest, *map(len, column.split()), *(len(word) for cell in cells for word in cell.split())])


def lay_out(found: Sequence[Entry], heads: Sequence[str], widths: Sequence[int], more: Any) -> str:
    extra = columns(found)
    right = {column for column in extra if numeric(found, column)}
    names = [
        [part.rjust(width) if name in right else part for part in wrapped(name, width)]
        for name, width in zip(heads, widths, strict=True)
    ]
    lines, family = [RULE, *row(names, widths), RULE], None
    for entry in found:
        if entry.family != family:
            family = entry.family
            lines += [] if lines[-1] == RULE else [""]
            lines.append(family)
        cells = [[f"  {entry.name}"]]
        for name, width in zip(extra, widths[1:], strict=False):
            text = entry.cells.get(name, "")
            cells.append([text.rjust(width)] if name in right else wrapped(text, width))
        lines += row([*cells, *more(entry)], widths)
    return "\n".join([*lines, RULE])


def wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def packed(words: Sequence[str], width: int) -> list[str]:
    """Fill lines with words, two spaces apart; break a word that is longer than a line."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f"  {word}"
        else:
            lines += textwrap.wrap(word, width)
    return lines


def row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for level in range(max(map(len, cells))):
        parts = [cell[level] if level < len(cell) else "" for cell in cells]
        yield "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()


def markdown(found: Sequence[Entry], group: Group) -> str:
    """Format a markdown table: papers are links, settings are code."""
    extra = columns(found)
    lines = [["family", group.noun, *extra, "settings and defaults", group.source]]
    lines.append([":--", ":--", *("--:" if numeric(found, column) else ":--" for column in extra), ":--", ":--"])
    for entry in found:
        paper = entry.paper
        link = f"[{escape(paper.title)}]({paper.link}), {escape(paper.authors)} {paper.year}" if paper else ""
        settings = " ".join(f"`{choice}`" for choice in choices(entry)).replace("|", r"\|")
        cells = [escape(entry.cells.get(column, "")) for column in extra]
        lines.append([entry.family, f"`{entry.name}`", *cells, settings, link or escape(entry.about)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def describe_entry(entry: Entry, group: Group) -> str:
    """Format all about one entry: comments, facts, settings and a command."""
    is_below = entry.file.is_relative_to(Path.cwd())
    file = entry.file.relative_to(Path.cwd()) if is_below else entry.file
    lines = [entry.name, RULE, *entry.comments, ""]
    facts = {"file": [str(file)], **entry.facts}
    label = max(8, *map(len, facts))
    for name, texts in facts.items():
        lines += [f"{name if k == 0 else '':<{label}}  {text}" for k, text in enumerate(texts)]
    rows = [
        (f"{group.folder}.{key}", format_default(value), entry.notes.get(key, ""))
        for key, value in entry.settings.items()
    ]
    rows += [(key, format_default(value), entry.notes.get(key, "")) for key, value in entry.elsewhere.items()]
    if rows:
        widths = [max(len(cells[k]) for cells in (("setting", "default"), *rows)) for k in (0, 1)]
        widths.append(max(WIDTH - sum(widths) - 4, 30))
        lines += ["", *row([["setting"], ["default"], []], widths), RULE]
        for name, value, note in rows:
            lines += row([[name], [value], wrapped(note, widths[-1])], widths)
    required = [f" {group.folder}.{key}=…" for key, value in entry.settings.items() if value == MISSING]
    return "\n".join([*lines, "", f"python -m kd.run {group.folder}={entry.name}{''.join(required)}"])


def plain(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain values for JSON."""
    return {
        "name": entry.name,
        "family": entry.family,
        **entry.data,
        "settings": entry.settings,
        "elsewhere": entry.elsewhere,
        "notes": {key: note for key, note in entry.notes.items() if key in {**entry.settings, **entry.elsewhere}},
        "paper": entry.paper._asdict() if entry.paper else None,
        "comments": entry.comments,
        "file": str(entry.file),
    }
