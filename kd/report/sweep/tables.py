"""The table of a sweep for papers, in LaTeX and markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd.records.run_folder import ROLE_LABELS, Rows
from kd.report.sweep.aggregate import (
    MORE_SCORES,
    SCORES,
    Group,
    Spread,
    epoch_seconds,
    has,
    latencies,
    one_thread,
    picks,
    spread,
)
from kd.report.sweep.comparison import Differences, compared, matching
from kd.report.sweep.names import short
from kd.report.sweep.table_notes import ANY_MARK, DEFAULT, PICKED_MARK, gain_holds, loss_holds, notes
from kd.report.sweep.test_sets import DataSet, data_sets
from kd.report.text import escape, markdown_table
from kd.runtime.text import did_you_mean
from kd.runtime.values import format_value


@dataclass(frozen=True)
class Column:
    title: str
    scale: float
    decimals: int
    sign: bool = False
    exact: bool = False  # a property of the network without randomness: a deviation of 0 is not written


COLUMNS = {
    "accuracy": Column("accuracy (%)", 100, 2),
    "macro_f1": Column("macro F1 (%)", 100, 2),
    "top5_accuracy": Column("top-5 (%)", 100, 2),
    "balanced_accuracy": Column("balanced accuracy (%)", 100, 2),
    "nll": Column("NLL (nats)", 1, 3),
    "ece": Column("ECE (%)", 100, 2),
    "agreement": Column("agreement (%)", 100, 2),
    "gain": Column("gain (points)", 100, 2, sign=True),
    "recovered": Column("recovered (%)", 100, 1),
    "epoch_seconds": Column("s an epoch", 1, 2),
    "params": Column("params (K)", 1e-3, 1, exact=True),
    "macs": Column("MACs (M)", 1e-6, 2, exact=True),
    "latency_1": Column("ms, batch 1", 1, 2, exact=True),
    "latency_large": Column("ms, large batch", 1, 1, exact=True),
    "latency_one_thread": Column("ms, batch 1, one thread", 1, 2, exact=True),
}
OVER = "over"  # the column of the comparison with a reference group
EITHER = ("kd", "second_augment", "augment@second_augment", "baseline", "latency", "report", "tracking", "outputs")
UNSEEN = {  # settings that a network of this role does not depend on: sweeping them makes no second network
    "teacher": (*EITHER, "student", "train.student", "baseline_kd", "kd@baseline_kd"),
    "baseline": (*EITHER, "teacher", "attention", "train.teacher"),
}
BOLD = "\ue000", "\ue001"  # begin and end: characters that no text contains and no escaping changes
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **dict(zip(BOLD, ("\\textbf{", "}"), strict=True)),
    **{"α": "$\\alpha$", "±": "$\\pm$", "†": "$^\\dagger$", "↓": "$\\downarrow$"},
    **{"−": "$-$", "–": "--", "<": "$<$", ">": "$>$"},
}


def paper_rows(groups: Sequence[Group], differences: Differences | None = None) -> Rows:
    """Return the rows of the table: teachers, then baselines, then one row per group.

    Each row has ``role`` (a key of ``kd.records.run_folder.ROLE_LABELS``), ``values`` (swept setting -> text; "–" if
    the row does not depend on it), a ``Spread`` in plain units or None under each name of COLUMNS, ``bold`` (a
    significant gain), ``worse`` (a significant loss), ``picked`` (by validation), ``equals_baseline`` (alpha = 0: the
    gain is 0 by construction) and ``over``, its entry of ``differences`` or None. Groups with the same runs share a
    row. The n of a spread counts seeds; in a teacher's row it counts teachers.
    """
    if not groups:
        return []
    rows: Rows = [_common(role, *alike, groups) for role in UNSEEN for alike in _alike(role, groups)]
    chosen = picks(groups)
    by_runs: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        by_runs.setdefault(group.runs, []).append(group)
    for same in by_runs.values():
        gain = same[0].gain
        row = {"role": "student", "values": {name: _joined(same, name) for name in _names(groups)}}
        row |= {name: same[0].metrics[name] for name in COLUMNS}
        row |= {"gain": same[0].metrics["gain"] if gain else None, "equals_baseline": same[0].equals_baseline}
        row |= {"bold": gain_holds(gain), "worse": loss_holds(gain), "over": (differences or {}).get(same[0].runs)}
        rows.append({**row, "picked": any(group is one for group in same for one in chosen)})
    return rows


def _common(role: str, groups: Sequence[Group], odd: bool, everyone: Sequence[Group]) -> dict[str, Any]:
    """Return the row of the teacher or baseline that ``groups`` share. ``odd``: list all values of these groups."""
    once: dict[Any, Mapping[str, Any]] = {}  # a network counts once, however many cells have it
    agreements: dict[Any, set[float]] = {}
    for group in groups:
        for cell in group.cells:
            which = _which(role, cell.result)
            once.setdefault(which, cell.result)
            if cell.result["teacher"]:
                agreements.setdefault(which, set()).add(cell.result["comparison"]["baseline_agreement"])
    row: dict[str, Any] = {"role": role, "values": {name: ANY_MARK for name in _names(everyone)}}
    row["values"] |= {name: _joined(groups, name) for name in (_names(everyone) if odd else _seen(role, everyone))}
    row |= {name: spread(result[role][name] for result in once.values()) for name in (*SCORES, "params", "macs")}
    row |= {name: spread(result[role].get(name) for result in once.values()) for name in MORE_SCORES}
    row["epoch_seconds"] = spread(epoch_seconds(result[role]) for result in once.values())
    for name, place in (("latency_1", 0), ("latency_large", -1)):
        row[name] = spread(latencies(result[role])[place] for result in once.values())
    row["latency_one_thread"] = spread(one_thread(result[role]) for result in once.values())
    one_teacher = role == "baseline" and all(len(values) == 1 for values in agreements.values())
    row["agreement"] = spread(value for values in agreements.values() for value in values) if one_teacher else None
    row |= {"gain": None, "recovered": None, "over": None}
    return {**row, "bold": False, "worse": False, "picked": False, "equals_baseline": False}


def _alike(role: str, groups: Sequence[Group]) -> list[tuple[list[Group], bool]]:
    """Return lists of groups that share one teacher (or baseline, by seed), each with whether it is an odd one.

    Groups with the same settings may have different networks, because an option may set more than its name says
    (kd=function_matching also mixes the baseline's views). The network of the most groups is the usual one, the others
    are odd.
    """
    names, by_values = _seen(role, groups), {}
    for group in groups:
        if all(cell.result[role] for cell in group.cells):
            apart = by_values.setdefault(tuple(group.values.get(name) for name in names), [])
            ours = _scores(role, [group])
            for same in apart:
                theirs = _scores(role, same)
                if all(theirs.get(seed, numbers) == numbers for seed, numbers in ours.items()):
                    same.append(group)
                    break
            else:
                apart.append([group])
    return [(same, same is not max(apart, key=len)) for apart in by_values.values() for same in apart]


def _scores(role: str, groups: Sequence[Group]) -> dict[Any, tuple[float, ...]]:
    """Return the scores of the networks of a role, by seed; they identify a network, because no two share them."""
    results = [cell.result for group in groups for cell in group.cells]
    return {_which(role, result): tuple(result[role][name] for name in SCORES) for result in results}


def _which(role: str, result: Mapping[str, Any]) -> Any:
    """Return the seed of this network."""
    return result["settings"].get("teacher.seed") if role == "teacher" else result["seed"]


def _seen(role: str, groups: Sequence[Group]) -> list[str]:
    return [
        name
        for name in _names(groups)
        if not any(name == other or name.startswith(f"{other}.") for other in UNSEEN[role])
    ]


def _names(groups: Iterable[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for name in group.values))


def _joined(groups: Sequence[Group], name: str) -> str:
    values = [format_value(group.values[name]) for group in groups if name in group.values]
    return ", ".join(dict.fromkeys(values)) or ANY_MARK


def headings(names: Sequence[str]) -> list[str]:
    return [short(name, names) for name in names]


def number(value: Spread | None, column: Column) -> str:
    """Format as ``85.12 ± 0.43 (3)``; with one seed ``85.12 (1)``."""
    if value is None or not math.isfinite(value.mean):
        return ANY_MARK
    mean = f"{column.scale * value.mean:{'+' if column.sign else ''},.{column.decimals}f}".replace("-", "−")
    if column.exact and (value.n == 1 or value.std == 0):
        return mean
    return f"{mean} ± {column.scale * value.std:,.{column.decimals}f} ({value.n})" if value.n > 1 else f"{mean} (1)"


@dataclass(frozen=True)
class Table:
    titles: list[str]
    lines: list[list[str]]
    left: int  # number of text columns
    above: int  # number of lines before those of the groups
    notes: str


def _tables(
    groups: Sequence[Group], columns: Sequence[str] | None, against: Mapping[str, Any] | None, sort: str | None
) -> list[tuple[str, Table]]:
    """Return the title and the table of each data set."""
    columns = _chosen(columns, bool(against))
    if sort:
        _check(sort, bool(against))
    sets = data_sets(groups)
    if against and not any(has(group, against) for group in groups):
        matching(groups, against)  # raises an error that lists what exists
    return [(each.title, _table(each, columns, against, sort)) for each in sets]


def _table(data: DataSet, columns: Sequence[str], against: Mapping[str, Any] | None, sort: str | None) -> Table:
    groups, names, differences, words = data.groups, _names(data.groups), None, ""
    if against:
        there = any(has(group, against) for group in data.whole)
        differences = compared(groups, matching(data.whole, against)) if there else {}
        words = ", ".join(f"{name}={format_value(value)}" for name, value in against.items())
    rows = paper_rows(groups, differences)
    above = sum(row["role"] != "student" for row in rows)
    if sort:
        rows[above:] = sorted(rows[above:], key=lambda row: -_mean(row, sort))
    known = {**COLUMNS, OVER: Column(f"over {words} (points)", 100, 2, sign=True)}
    lines = [
        [
            ROLE_LABELS[row["role"]] + (f" {PICKED_MARK}" if row["picked"] else ""),
            *row["values"].values(),
            *(_cell(row, column, known[column]) for column in columns),
        ]
        for row in rows
    ]
    titles = ["network", *headings(names), *(known[column].title for column in columns)]
    return Table(titles, lines, 1 + len(names), above, " ".join(notes(groups, columns, words, differences)))


def _chosen(columns: Sequence[str] | None, against: bool) -> list[str]:
    """Return the columns of the table, each once; the column OVER comes last unless ``columns`` contains it."""
    for name in columns or ():
        _check(name, against)
    return list(dict.fromkeys([*(columns or DEFAULT), *([OVER] if against else [])]))


def _check(name: str, against: bool) -> None:
    if name == OVER and not against:
        raise ValueError(f"the column {OVER} needs a reference group, for example --against kd=hinton")
    known = [*COLUMNS, *([OVER] if against else [])]
    if name not in known:
        hint = did_you_mean(name, known, most=1) or "."
        raise ValueError(f"the table has no column {name!r}{hint} There are {', '.join(known)}")


def _mean(row: Mapping[str, Any], column: str) -> float:
    value = row[column].spread if column == OVER and row[OVER] else row[column]
    return value.mean if value and math.isfinite(value.mean) else -math.inf


def _cell(row: Mapping[str, Any], name: str, column: Column) -> str:
    if name == OVER:
        difference = row[OVER]
        if difference is None or difference.gain is None:
            return "=" if difference else ANY_MARK
        text = number(difference.spread, column) + (" ↓" if loss_holds(difference.gain) else "")
        return text.join(BOLD) if gain_holds(difference.gain) else text
    text = number(row[name], column)
    if name == "gain":
        text = "=" if row["equals_baseline"] else f"{text} ↓" if row["worse"] else text
    return text.join(BOLD) if row["bold"] and name in ("accuracy", "gain") else text


def markdown(
    groups: Sequence[Group],
    columns: Sequence[str] | None = None,
    against: Mapping[str, Any] | None = None,
    sort: str | None = None,
) -> str:
    """Return the table as markdown with its notes, one per data set; "" if no cell has finished.

    Args:
        columns: names from COLUMNS, in this order; None for DEFAULT.
        against: settings of the reference group for the column OVER: ``{"kd": "hinton"}``.
        sort: the column by which the groups' rows are sorted, highest first; None for the order of their values.

    Raises:
        ValueError: no such column; see also ``kd.report.sweep.comparison.matching`` and ``compared``.
    """
    if not groups:
        return ""
    parts = []
    for data, made in _tables(groups, columns, against, sort):
        titles = [escape(title) for title in made.titles]
        table = markdown_table([dict(zip(titles, line, strict=True)) for line in made.lines], left=titles[: made.left])
        for mark in BOLD:
            table = table.replace(mark, "**")
        parts += [*([f"Tested on {escape(data)}:"] if data else []), table, escape(made.notes)]
    return "\n\n".join(parts)


def latex(
    groups: Sequence[Group],
    columns: Sequence[str] | None = None,
    against: Mapping[str, Any] | None = None,
    sort: str | None = None,
) -> str:
    """Return the same table in LaTeX, which needs \\usepackage{booktabs}; "" if no cell has finished."""
    if not groups:
        return ""
    made = _tables(groups, columns, against, sort)
    return "\n".join(["% \\usepackage{booktabs}", *(_latex(data, table) for data, table in made)]) + "\n"


def _latex(data: str, made: Table) -> str:
    notes = f"Tested on {data}. {made.notes}" if data else made.notes
    head, *body = [" & ".join(map(_typeset, line)) + r" \\" for line in (made.titles, *made.lines)]
    parts = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_typeset(notes)}}}",
        rf"\begin{{tabular}}{{{'l' * made.left}{'r' * (len(made.titles) - made.left)}}}",
        *(r"\toprule", head, r"\midrule"),
        *body[: made.above],
        r"\midrule",
        *body[made.above :],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts)


def _typeset(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
