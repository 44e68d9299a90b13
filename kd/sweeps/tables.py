"""A sweep's numbers for others: ``cells.csv``, and the table of a paper in LaTeX and markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.sweeps.grid import LEVEL, SCORES, Group, Spread, best, claims, spread
from kd.tables import LABEL, Rows, escape, markdown_table

# column -> title, scale, decimals
COLUMNS = {
    "accuracy": ("accuracy (%)", 100.0, 2),
    "macro_f1": ("macro F1 (%)", 100.0, 2),
    "nll": ("NLL (nats)", 1.0, 3),
    "ece": ("ECE (%)", 100.0, 2),
    "agreement": ("agreement (%)", 100.0, 2),
    "gain": ("gain (points)", 100.0, 2),
}
EITHER = ("kd", "baseline", "latency", "report", "tracking", "outputs")
UNSEEN = {  # settings that a network of this role is not made of: sweeping them makes no second one
    "teacher": (*EITHER, "student", "train.student", "twin", "kd@twin"),
    "baseline": (*EITHER, "teacher", "attention", "train.teacher"),
}
SYMBOLS = {"kd.temperature": "T", "kd.alpha": "α", "teacher.seed": "teacher seed", "data.seed": "data seed"}
ANY = "–"
PICKED = "†"
BOLD = "\ue000", "\ue001"  # begin and end: characters that no text holds and no escaping touches
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **dict(zip(BOLD, ("\\textbf{", "}"), strict=True)),
    **{"α": "$\\alpha$", "±": "$\\pm$", "†": "$^\\dagger$", "↓": "$\\downarrow$"},
    **{"−": "$-$", "–": "--", "<": "$<$", ">": "$>$"},
}


def group_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One row a group, plain values: what was swept, each measure's mean, deviation and n, the gain and its test."""
    rows = []
    for group in groups:
        row = dict(group.values)
        for name, over in group.metrics.items():
            row |= {name: over.mean, f"{name} std": over.std}
        row["seeds"] = len(group.cells)
        if group.gain:
            row |= {"gain low": group.gain.low, "gain high": group.gain.high, "p": group.gain.p}
            row |= {"p Holm": group.gain.p_holm, "significant": group.gain.significant}
        rows.append(row)
    return rows


def cells_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return ``kd.sweeps.grid.cell_rows`` as CSV: a header, then a line a cell; empty where nothing is known.

    Numbers keep every digit and bring no unit; an error is told in one line.
    """
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return text.getvalue()


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return " ".join(value.split()) if isinstance(value, str) else value


def paper_rows(groups: Sequence[Group]) -> Rows:
    """Return the rows of the paper's table: teachers, then students on labels alone, then one row a group.

    Each row: ``role`` (a key of kd.tables.LABEL), ``values`` (swept setting -> text; "–" where the row does not
    depend on it), a ``Spread`` in plain units or None under each name of COLUMNS, ``bold`` (a significant gain),
    ``worse`` (a significant loss), ``picked`` (by validation) and ``own_twin`` (alpha = 0: the gain is 0 by
    construction). Groups with the same runs share a row. A spread's n counts seeds, and of a teacher the teachers.
    """
    if not groups:
        return []
    rows: Rows = [_common(role, alike, groups) for role in UNSEEN for alike in _alike(role, groups)]
    chosen = best(groups)
    together: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        together.setdefault(group.runs, []).append(group)
    for same in together.values():
        gain = same[0].gain
        significant = bool(gain and gain.significant)
        row = {"role": "student", "values": {name: _joined(same, name) for name in _names(groups)}}
        row |= {name: same[0].metrics[name] for name in COLUMNS}
        row |= {"gain": same[0].metrics["gain"] if gain else None, "own_twin": same[0].own_twin}
        row |= {"bold": significant and gain.mean > 0, "worse": significant and gain.mean < 0}
        rows.append({**row, "picked": any(group is chosen for group in same)})
    return rows


def _common(role: str, groups: Sequence[Group], everyone: Sequence[Group]) -> dict[str, Any]:
    """The row of the teacher or of the twin that ``groups`` have in common."""
    once: dict[Any, Mapping[str, Any]] = {}  # a network counts once, however many cells it stands in
    agreements: dict[Any, set[float]] = {}
    for group in groups:
        for cell in group.cells:
            which = cell.result["settings"].get("teacher.seed") if role == "teacher" else cell.result["seed"]
            once.setdefault(which, cell.result)
            agreements.setdefault(which, set()).add(cell.result["comparison"]["baseline_agreement"])
    row: dict[str, Any] = {"role": role, "values": {name: ANY for name in _names(everyone)}}
    row["values"] |= {name: _joined(groups, name) for name in _seen(role, everyone)}
    row |= {name: spread(result[role][name] for result in once.values()) for name in SCORES}
    one_teacher = role == "baseline" and all(len(values) == 1 for values in agreements.values())
    row["agreement"] = spread(value for values in agreements.values() for value in values) if one_teacher else None
    return {**row, "gain": None, "bold": False, "worse": False, "picked": False, "own_twin": False}


def _alike(role: str, groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that have one teacher (or twin, by seed) in common."""
    names, found = _seen(role, groups), {}
    for group in groups:
        if all(cell.result[role] for cell in group.cells):
            found.setdefault(tuple(group.values.get(name) for name in names), []).append(group)
    return list(found.values())


def _seen(role: str, groups: Sequence[Group]) -> list[str]:
    return [
        name
        for name in _names(groups)
        if not any(name == other or name.startswith(f"{other}.") for other in UNSEEN[role])
    ]


def _names(groups: Iterable[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for name in group.values))


def _joined(groups: Sequence[Group], name: str) -> str:
    values = [_said(group.values[name]) for group in groups if name in group.values]
    return ", ".join(dict.fromkeys(values)) or ANY


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "null" if value is None else str(value)


def headings(names: Sequence[str]) -> list[str]:
    """Short names of swept settings: a symbol where there is one, the last part where it is no other's, too."""
    last = [name.rpartition(".")[2] for name in names]
    return [SYMBOLS.get(name, part if last.count(part) == 1 else name) for name, part in zip(names, last, strict=True)]


def number(value: Spread | None, scale: float, decimals: int, sign: bool = False) -> str:
    """``85.12 ± 0.43 (3)``; of one seed ``85.12 (1)``."""
    if value is None or not math.isfinite(value.mean):
        return ANY
    mean = f"{scale * value.mean:{'+' if sign else ''}.{decimals}f}".replace("-", "−")
    return f"{mean} ± {scale * value.std:.{decimals}f} ({value.n})" if value.n > 1 else f"{mean} ({value.n})"


def notes(groups: Sequence[Group]) -> list[str]:
    """What a reader must know of the paper's table, as sentences of plain text."""
    counts = sorted({cell.result["data"]["test"] for group in groups for cell in group.cells})
    pictures = " or ".join(f"{count:,}" for count in counts)
    said = [
        f"Mean ± standard deviation (number of seeds; of teachers in the teacher's row) on {pictures} test pictures.",
        "Agreement: share of them on which the network predicts what its teacher does.",
    ]
    made = claims(groups)
    if made:
        said.append(
            "Gain: in accuracy over the same student, seed and schedule on labels only. Bold: the gain is significant, "
            f"p < {LEVEL:g} after Holm's correction for {len(made)} {'test' if len(made) == 1 else 'tests'}; "
            f"{' and '.join(_tests(made))}."
        )
        if any(group.gain.significant and group.gain.mean < 0 for group in made):
            said.append("↓: a loss that is significant in the same sense.")
    else:
        said.append("Nothing is bold: there is no gain over a student on labels only to be tested.")
    if any(group.own_twin for group in groups):
        said.append("A gain of 0 (=): the student is its own twin, for the teacher has no weight in its loss.")
    return [*said, f"{PICKED}: picked by validation accuracy; the test split had no part in the choice."]


def _tests(groups: Sequence[Group]) -> list[str]:
    several = "a two-sided t test with seeds and test pictures as crossed random effects"
    one = "McNemar's exact test for one seed, which speaks of the test pictures alone and not of other seeds"
    seeds = [group.gain.seeds for group in groups]
    return [words for words, used in ((several, max(seeds) > 1), (one, min(seeds) == 1)) if used]


def _table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]], int, int]:
    """Return the titles, the lines of cells, how many columns are text, and how many lines come before the groups."""
    names, rows, lines = _names(groups), paper_rows(groups), []
    for row in rows:
        line = [LABEL[row["role"]] + (f" {PICKED}" if row["picked"] else ""), *row["values"].values()]
        for column, (_, scale, decimals) in COLUMNS.items():
            text = number(row[column], scale, decimals, sign=column == "gain")
            if column == "gain":
                text = "=" if row["own_twin"] else f"{text} ↓" if row["worse"] else text
            line.append(text.join(BOLD) if row["bold"] and column in ("accuracy", "gain") else text)
        lines.append(line)
    titles = ["network", *headings(names), *(title for title, *_ in COLUMNS.values())]
    return titles, lines, 1 + len(names), sum(row["role"] != "student" for row in rows)


def markdown(groups: Sequence[Group]) -> str:
    """Return the paper's table as markdown, with its notes; "" where nothing has finished."""
    if not groups:
        return ""
    titles, lines, text, _ = _table(groups)
    table = markdown_table([dict(zip(titles, line, strict=True)) for line in lines], left=titles[:text])
    for mark in BOLD:
        table = table.replace(mark, "**")
    return f"{table}\n\n{escape(' '.join(notes(groups)))}"


def latex(groups: Sequence[Group]) -> str:
    """Return the paper's table as a LaTeX table, which needs \\usepackage{booktabs}; "" where nothing has finished."""
    if not groups:
        return ""
    titles, lines, text, above = _table(groups)
    head, *body = [" & ".join(map(_typeset, line)) + r" \\" for line in (titles, *lines)]
    parts = [
        "% \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_typeset(' '.join(notes(groups)))}}}",
        rf"\begin{{tabular}}{{{'l' * text}{'r' * (len(titles) - text)}}}",
        *(r"\toprule", head, r"\midrule"),
        *body[:above],
        r"\midrule",
        *body[above:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def _typeset(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
