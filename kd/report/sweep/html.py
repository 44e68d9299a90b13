"""``report.html`` of a sweep: one file that loads nothing from the network. All text from the sweep is escaped.

The page is plain HTML and complete without its script, which sorts, filters and copies (``assets/page.js``).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kd.records.run_folder import Rows
from kd.report.sweep import answer, captions, page
from kd.report.sweep.names import many
from kd.report.sweep.page import HEADINGS
from kd.report.sweep.view import METRICS, Metric, Point, Slice, View, mean
from kd.report.text import is_finite
from kd.runtime.values import format_value

ASSETS = Path(__file__).parent / "assets"
# the browser blocks everything that is not in the file itself
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


Figures = Mapping[str, tuple[Path, str]]  # name -> file and alt text of the figures that exist


def html(shown: Sequence[View], found: Sequence[Sequence[Point]], figures: Figures, rows: Rows) -> str:
    """Return the text of ``report.html``.

    Args:
        shown: the view of each data set. found: the points of each.
        rows: ``kd.report.sweep.aggregate.cell_rows`` of all cells.
    """
    sweep = shown[0].sweep
    body = [_head(shown), "<main>"]
    for each, its_points in zip(shown, found, strict=True):
        body += _of_a_data_set(each, its_points, figures) if each.picks else []
    body += [_section("cells", HEADINGS["cells"], _cells(rows, sweep.swept, sweep.folder))]
    body += [_section("method", HEADINGS["method"], [_list(answer.method(shown))]), "</main>"]
    return document(sweep.name, [ASSETS / "page.css"], [ASSETS / "theme.js", ASSETS / "page.js"], body)


def document(title: str, styles: Sequence[Path], scripts: Sequence[Path], body: Iterable[str]) -> str:
    """Return a page that holds its styles and scripts, and that the browser lets load nothing else.

    Args:
        title: as text. body: lines of HTML; the scripts run after it, in their order.
    """
    style, script = ("\n".join(path.read_text(encoding="utf-8") for path in paths) for paths in (styles, scripts))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            *body,
            f"<script>\n{script}</script>",
            "</body>",
            "</html>\n",
        ]
    )


def _of_a_data_set(shown: View, found: Sequence[Point], everything: Figures) -> list[str]:
    figures = {name: everything[shown.named(name)] for name in page.drawn(shown) if shown.named(name) in everything}
    parts = {"maps": _maps(shown, figures)}
    if "curves" in figures:
        parts["curves"] = [_figure(figures, "curves")]
    if "fronts" in figures:
        parts["fronts"] = [_p(captions.costs(shown, found)), _figure(figures, "fronts")]
    parts["best"] = _best(shown, figures)
    return [_section(shown.named(name), page.heading(shown, name), body) for name, body in parts.items()]


# --- elements ------------------------------------------------------------------------------------------------------


def _p(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>" if text else ""


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _section(name: str, heading: str, parts: Iterable[str]) -> str:
    return "\n".join([f'<section id="{name}">', f"<h2>{escape(heading)}</h2>", *filter(None, parts), "</section>"])


def _figure(figures: Figures, name: str) -> str:
    if name not in figures:
        return ""
    path, words = figures[name]
    content = path.read_bytes()
    wide, high = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))  # in the first chunk of the PNG
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    image = f'<img src="{source}" alt="{escape(words)}" width="{wide}" height="{high}">'
    return f'<figure><div class="scroll">{image}</div></figure>'


def _table(rows: Rows, left: Sequence[str]) -> str:
    columns = list(rows[0])
    kind = {column: _class("left") if column in left else "" for column in columns}
    head = "".join(f'<th scope="col"{kind[column]}>{escape(column)}</th>' for column in columns)
    lines = []
    for row in rows:
        first, *rest = columns
        cells = f'<th scope="row"{kind[first]}>{escape(str(row[first]))}</th>'
        cells += "".join(f"<td{kind[column]}>{escape(str(row[column]))}</td>" for column in rest)
        lines.append(f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


# --- head ----------------------------------------------------------------------------------------------------------


def _head(shown: Sequence[View]) -> str:
    sweep = shown[0].sweep
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in answer.facts(shown))
    parts = [
        "<header>",
        f'<div class="top"><div><h1>{escape(sweep.name)}</h1></div>'
        '<button type="button" id="theme" class="needs-script">Dark theme</button></div>',
        _p(answer.unfinished(sweep), "notice"),
        *(_p(each, "answer") for each in answer.answers(shown)),
        f'<div class="command"><pre><code>{escape(sweep.command)}</code></pre>'
        '<button type="button" class="needs-script" data-copy aria-live="polite">copy</button></div>',
        f'<dl class="facts">{facts}</dl>',
    ]
    failed = answer.failures(sweep)
    if failed:
        items = "".join(
            f"<li><code>{escape(line)}</code> {escape(status)}: {escape(error)}</li>" for line, status, error in failed
        )
        words = f"{many(len(failed), 'cell')} failed" + (" or were lost" if sweep.count("lost") else "")
        parts.append(
            f'<details class="notice failure"{" open" if len(failed) <= 10 else ""}>'
            f"<summary>{words}</summary><ul>{items}</ul></details>"
        )
    if refused := answer.refusals(sweep):
        rows = "".join(f"<li><code>{escape(line)}</code>: {escape(why)}</li>" for line, _, why in refused)
        parts.append(
            f'<details class="notice" open><summary>{escape(answer.REFUSED)}</summary><ul>{rows}</ul></details>'
        )
    return "\n".join([*filter(None, parts), "</header>"])


# --- heat maps -----------------------------------------------------------------------------------------------------


def _maps(shown: View, figures: Figures) -> list[str]:
    parts = [_p(captions.reading(shown)), _p(captions.left_out(shown))]
    if shown.kind != "grid" or len(shown.columns.values) > 40:
        return [*parts, *(_figure(figures, metric.key) for metric in METRICS), _combinations(shown)]
    for metric in METRICS[:1]:
        parts.append(_metric(shown, metric, "heat large"))
    wide = 4.6 + 3.75 * len(shown.columns.values)  # width of a map in rem; the page puts as many side by side as fit
    others = "\n".join(_metric(shown, metric, "heat") for metric in METRICS[1:])
    return [*parts, f'<div class="maps" style="--wide: {wide:.2f}rem">{others}</div>', _combinations(shown)]


def _combinations(shown: View) -> str:
    table = _table(captions.group_rows(shown), ("settings",))
    return f"<details><summary>All combinations: means, intervals and p</summary>{table}</details>"


def _metric(shown: View, metric: Metric, kind: str) -> str:
    values = [mean(group, metric.key) for part in shown.slices for group in part.groups.values()]
    values = [value for value in values if is_finite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    better = "lower is better" if metric.lower else "higher is better"
    title = f"<h3>{escape(metric.title[0].upper() + metric.title[1:])} <small>{better}</small></h3>"
    tables = "\n".join(_heat(shown, part, metric, kind, low, high) for part in shown.slices)
    return f'<div>{title}<div class="slices">{tables}</div></div>'


def _heat(shown: View, part: Slice, metric: Metric, kind: str, low: float, high: float) -> str:
    columns, rows = shown.columns, shown.rows
    head = f'<th class="axis">{escape(rows.name)} ↓ &nbsp; {escape(columns.name)} →</th>'
    head += "".join(f'<th scope="col">{escape(format_value(column))}</th>' for column in columns.values)
    lines = []
    for row in rows.values:
        cells = [f'<th scope="row">{escape(format_value(row))}</th>']
        for column in columns.values:
            group, state = part.at(row, column), part.states.get((row, column), "")
            tip = escape(captions.tooltip(group, captions.cell_location(shown, part, row, column), state))
            first, *rest = captions.heat_text(group, metric, state)
            if group is None:
                cells.append(f'<td class="none" title="{tip}">{escape(first)}</td>')
                continue
            value = mean(group, metric.key)
            share = (value - low) / (high - low) if is_finite(value) and high > low else 0.5
            share = 1 - share if metric.lower else share
            picked = ' class="picked"' if shown.picked(group) else ""
            words = f"<b>{escape(first)}</b>" + "".join(f"<i>{escape(line)}</i>" for line in rest)
            cells.append(f'<td{picked} style="--v:{share:.3f}" title="{tip}">{words}</td>')
        lines.append("<tr>" + "".join(cells) + "</tr>")
    caption = f"<caption>{escape(part.title)}</caption>" if part.title else ""
    body = "\n".join(lines)
    table = f'<table class="{kind}">{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


# --- the picked cell -----------------------------------------------------------------------------------------------


def _best(shown: View, figures: Figures) -> list[str]:
    parts = []
    for name, group in captions.best_cells(shown):
        words, table, seeds = captions.best_cell_section(shown, group)
        parts += [_p(words), _table(table, ("metric", "better"))]
        if seeds:
            parts += ["<h3>Mean ± standard deviation over seeds</h3>", _table(seeds, ("metric",))]
        parts.append(_figure(figures, name))
    return [*parts, _p(captions.not_shown(shown))]


# --- all cells -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    title: str
    scale: float = 1
    form: str = ",.4g"
    best: str = "ascending"  # order of the first click on its heading


HIGH = "descending"
COLUMNS = {  # of the table of all cells, after the swept settings; in this order
    "accuracy": Column("accuracy (%)", 100, ".2f", HIGH),
    "gain": Column("gain (points)", 100, "+.2f", HIGH),
    "val_accuracy": Column("validation (%)", 100, ".2f", HIGH),
    "val_balanced_accuracy": Column("validation balanced (%)", 100, ".2f", HIGH),
    "val_macro_f1": Column("validation macro F1 (%)", 100, ".2f", HIGH),
    "baseline_accuracy": Column("baseline (%)", 100, ".2f", HIGH),
    "teacher_accuracy": Column("teacher (%)", 100, ".2f", HIGH),
    "top5_accuracy": Column("top-5 (%)", 100, ".2f", HIGH),
    "balanced_accuracy": Column("balanced accuracy (%)", 100, ".2f", HIGH),
    "macro_f1": Column("macro F1 (%)", 100, ".2f", HIGH),
    "nll": Column("NLL", 1, ".3f"),
    "ece": Column("ECE (%)", 100, ".2f"),
    "agreement": Column("agreement (%)", 100, ".2f", HIGH),
    "mcnemar_p": Column("McNemar p", 1, ".3g"),
    "latency_1": Column("latency, batch 1 (ms)", 1, ",.3g"),
    "latency_large": Column("latency, large batch (ms)", 1, ",.3g"),
    "latency_one_thread": Column("latency, batch 1, one thread (ms)", 1, ",.3g"),
    "throughput": Column("images/s", 1, ",.0f", HIGH),
    "macs": Column("MACs (M)", 1e-6, ",.4g"),
    "params": Column("parameters (M)", 1e-6, ",.4g"),
    "size_mb": Column("size (MB)", 1, ",.3g"),
    "seconds": Column("minutes", 1 / 60, ",.1f"),
}


def _cells(rows: Rows, swept: Sequence[str], folder: Path) -> list[str]:
    if not rows:
        return [_p("No cell has begun yet.")]
    swept = [name for name in swept if name in rows[0]]
    shown = [name for name in COLUMNS if any(known_number(row.get(name)) for row in rows)]
    errors = any(row["error"] for row in rows)
    head = ['<th scope="col">#</th>', '<th scope="col" class="left" data-select>status</th>']
    head += [f'<th scope="col" data-select>{escape(name)}</th>' for name in swept]
    for name in shown:
        head.append(f'<th scope="col" data-first="{COLUMNS[name].best}">{escape(COLUMNS[name].title)}</th>')
    head += [
        '<th scope="col" class="left" data-fixed>report</th>',
        '<th scope="col" class="left" data-fixed>command</th>',
    ]
    head += ['<th scope="col" class="left">error</th>'] if errors else []
    lines = []
    for row in rows:
        status = str(row["status"])
        cells = [f"<td>{row['number']}</td>", f'<td class="left status {escape(status)}">{escape(status)}</td>']
        cells += [f"<td>{escape(page.cell_text(row[name]))}</td>" for name in swept]
        cells += [_score(row[name], COLUMNS[name]) for name in shown]
        there = known_number(row["accuracy"]) and (folder / row["run"] / "report.md").is_file()
        link = f'<a href="{escape(quote(row["run"] + "/report.md"))}">report</a>' if there else "–"
        cells.append(f'<td class="left">{link}</td>')
        cells.append(
            '<td class="left"><div class="take"><button type="button" class="needs-script" data-copy>copy</button>'
            f"<code>{escape(row['command'])}</code></div></td>"
        )
        if errors:
            cells.append(
                f'<td class="left words" title="{escape(row["error"] or "")}">{escape(row["error"] or "–")}</td>'
            )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    body = "\n".join(lines)
    tools = (
        '<div class="tools needs-script" id="tools"><label>text in any column<input type="search"></label>'
        '<output aria-live="polite"></output><button type="button">clear</button></div>'
    )
    return [
        _p(
            "Every run of the sweep, one seed each. A click on a heading sorts; a command runs its cell alone.", "quiet"
        ),
        tools,
        '<div class="cells-box" tabindex="0" role="region" aria-label="all cells"><table class="cells"><thead><tr>'
        f"{''.join(head)}</tr></thead>\n<tbody>{body}</tbody></table></div>",
    ]


def _score(value: Any, column: Column) -> str:
    if not known_number(value):
        return "<td>–</td>"
    text = format(column.scale * value, column.form).replace("-", "−")
    return f'<td data-v="{value:.9g}">{text}</td>'


def known_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
