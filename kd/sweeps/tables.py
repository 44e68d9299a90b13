"""A sweep's numbers for others: ``cells.csv``, and the table of a paper in LaTeX and markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.runtime.text import did_you_mean
from kd.runtime.values import format_value, number_or_text
from kd.sweeps.data_sets import DataSet, data_sets
from kd.sweeps.grid import (
    LEVEL,
    MORE_SCORES,
    SCORES,
    Difference,
    Gain,
    Group,
    Spread,
    claims,
    compared,
    epoch_seconds,
    has,
    latencies,
    matching,
    one_thread,
    picking,
    picks,
    spread,
)
from kd.sweeps.names import short
from kd.tables import LABEL, PICKS, Rows, escape, markdown_table


@dataclass(frozen=True)
class Column:
    title: str
    scale: float
    decimals: int
    sign: bool = False
    exact: bool = False  # a network has it, no chance is in it: no deviation is written where there is none


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
DEFAULT = ("accuracy", "macro_f1", "nll", "ece", "agreement", "gain")
OVER = "over"  # the column of the comparison with a reference group
Differences = Mapping[tuple[Path, ...], Difference]  # what kd.sweeps.grid.compared returns
EITHER = ("kd", "baseline", "latency", "report", "tracking", "outputs")
UNSEEN = {  # settings that a network of this role is not made of: sweeping them makes no second one
    "teacher": (*EITHER, "student", "train.student", "twin", "kd@twin"),
    "baseline": (*EITHER, "teacher", "attention", "train.teacher"),
}
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
    title = {group.runs: each.title for each in data_sets(groups) for group in each.whole if each.title}
    rows = []
    for group in groups:
        row = {"data set": title[group.runs]} if title else {}
        row |= {name: number_or_text(value) for name, value in group.values.items()}
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


def paper_rows(groups: Sequence[Group], differences: Differences | None = None) -> Rows:
    """Return the rows of the paper's table: teachers, then students on labels alone, then one row a group.

    Each row: ``role`` (a key of kd.tables.LABEL), ``values`` (swept setting -> text; "–" where the row does not
    depend on it), a ``Spread`` in plain units or None under each name of COLUMNS, ``bold`` (a significant gain),
    ``worse`` (a significant loss), ``picked`` (by validation), ``own_twin`` (alpha = 0: the gain is 0 by
    construction) and ``over``, its entry of ``differences`` or None. Groups with the same runs share a row. A spread's
    n counts seeds, and of a teacher the teachers.
    """
    if not groups:
        return []
    rows: Rows = [_common(role, *alike, groups) for role in UNSEEN for alike in _alike(role, groups)]
    chosen = picks(groups)
    together: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        together.setdefault(group.runs, []).append(group)
    for same in together.values():
        gain = same[0].gain
        row = {"role": "student", "values": {name: _joined(same, name) for name in _names(groups)}}
        row |= {name: same[0].metrics[name] for name in COLUMNS}
        row |= {"gain": same[0].metrics["gain"] if gain else None, "own_twin": same[0].own_twin}
        row |= {"bold": _better(gain), "worse": _worse(gain), "over": (differences or {}).get(same[0].runs)}
        rows.append({**row, "picked": any(group is one for group in same for one in chosen)})
    return rows


def _better(gain: Gain | None) -> bool:
    return bool(gain and gain.significant and gain.mean > 0)


def _worse(gain: Gain | None) -> bool:
    return bool(gain and gain.significant and gain.mean < 0)


def _common(role: str, groups: Sequence[Group], odd: bool, everyone: Sequence[Group]) -> dict[str, Any]:
    """The row of the teacher or of the twin that ``groups`` have in common; ``odd`` names them all."""
    once: dict[Any, Mapping[str, Any]] = {}  # a network counts once, however many cells it stands in
    agreements: dict[Any, set[float]] = {}
    for group in groups:
        for cell in group.cells:
            which = _which(role, cell.result)
            once.setdefault(which, cell.result)
            agreements.setdefault(which, set()).add(cell.result["comparison"]["baseline_agreement"])
    row: dict[str, Any] = {"role": role, "values": {name: ANY for name in _names(everyone)}}
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
    return {**row, "bold": False, "worse": False, "picked": False, "own_twin": False}


def _alike(role: str, groups: Sequence[Group]) -> list[tuple[list[Group], bool]]:
    """Groups that have one teacher (or twin, by seed) in common, and whether others of these settings have another:
    an option may set more than it is named for (kd=function_matching mixes the views of the twin, too). Of those with
    the same settings the networks of the most groups are the usual ones, and the others odd.
    """
    names, found = _seen(role, groups), {}
    for group in groups:
        if all(cell.result[role] for cell in group.cells):
            apart = found.setdefault(tuple(group.values.get(name) for name in names), [])
            ours = _scores(role, [group])
            for same in apart:
                theirs = _scores(role, same)
                if all(theirs.get(seed, numbers) == numbers for seed, numbers in ours.items()):
                    same.append(group)
                    break
            else:
                apart.append([group])
    return [(same, same is not max(apart, key=len)) for apart in found.values() for same in apart]


def _scores(role: str, groups: Sequence[Group]) -> dict[Any, tuple[float, ...]]:
    """What a network answers is known by its scores, which no two networks share."""
    results = [cell.result for group in groups for cell in group.cells]
    return {_which(role, result): tuple(result[role][name] for name in SCORES) for result in results}


def _which(role: str, result: Mapping[str, Any]) -> Any:
    """The seed of this network."""
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
    return ", ".join(dict.fromkeys(values)) or ANY


def headings(names: Sequence[str]) -> list[str]:
    return [short(name, names) for name in names]


def number(value: Spread | None, column: Column) -> str:
    """``85.12 ± 0.43 (3)``; of one seed ``85.12 (1)``."""
    if value is None or not math.isfinite(value.mean):
        return ANY
    mean = f"{column.scale * value.mean:{'+' if column.sign else ''},.{column.decimals}f}".replace("-", "−")
    if column.exact and (value.n == 1 or value.std == 0):
        return mean
    return f"{mean} ± {column.scale * value.std:,.{column.decimals}f} ({value.n})" if value.n > 1 else f"{mean} (1)"


def notes(
    groups: Sequence[Group],
    columns: Sequence[str] = DEFAULT,
    against: str = "",
    differences: Differences | None = None,
) -> list[str]:
    """What a reader must know of the paper's table, as sentences of plain text; ``against`` names the reference."""
    counts = sorted({cell.result["data"]["test"] for group in groups for cell in group.cells})
    pictures = " or ".join(f"{count:,}" for count in counts)
    told = [
        f"Mean ± standard deviation (number of seeds; of teachers in the teacher's row) on {pictures} test pictures."
    ]
    if "agreement" in columns:
        told.append("Agreement: share of them on which the network predicts what its teacher does.")
    if "balanced_accuracy" in columns:
        told.append("Balanced accuracy: of each class the share that is recognised, and the mean of these.")
    if {"accuracy", "gain"} & {*columns}:
        told += _of_the_gain(groups, columns, alone=not against)
    if against:
        told += _of_the_reference(groups, against, differences or {})
    if "recovered" in columns:
        told.append(
            "Recovered: the gain as a share of the teacher's lead over the student on labels only, by seed, where the "
            "teacher leads."
        )
    if "epoch_seconds" in columns:
        told.append(
            "s an epoch: the training of the network itself, validation included; what its teachers were trained for, "
            "and answers of theirs that were written down beforehand, come on top."
        )
    if {"latency_1", "latency_large", "latency_one_thread"} & {*columns}:
        told.append(
            "ms: median latency of the network alone, in float32; the large batch is latency.batch. What was timed on "
            "a busy machine is left out."
        )
    by = PICKS[picking(groups)]
    return [*told, f"{PICKED}: picked by validation {by}; the test split had no part in the choice."]


def _of_the_gain(groups: Sequence[Group], columns: Sequence[str], alone: bool) -> list[str]:
    made = [group.gain for group in claims(groups)]
    shown = " and ".join(name for name in ("accuracy", "gain") if name in columns)
    if made:
        told = [
            "Gain: in accuracy over the same student, seed and schedule on labels only. "
            f"Bold{'' if alone else f' ({shown})'}: the gain is significant, {_level(made)}; {_tests(made)}."
        ]
    else:
        there = "Nothing is bold: there" if alone else "There"
        told = [f"{there} is no gain over a student on labels only to be tested."]
    if "gain" in columns and any(map(_worse, made)):
        told.append("↓: a loss that is significant in the same sense.")
    if "gain" in columns and any(group.own_twin for group in groups):
        told.append("A gain of 0 (=): the student is its own twin, for the teacher has no weight in its loss.")
    return told


def _of_the_reference(groups: Sequence[Group], against: str, differences: Differences) -> list[str]:
    told = [
        f"Over {against}: test accuracy less that of the student of {against}, seed by seed of those that both have "
        "and on the same pictures; = is that student itself."
    ]
    made = [each.gain for each in differences.values() if each.gain]
    if not differences:
        return [*told, f"Over, {ANY}: no cell on these test pictures has {against}."]
    if made:
        arrow = ", ↓: significantly worse" if any(map(_worse, made)) else ""
        told.append(f"Bold (over): significantly better{arrow}, {_level(made)}; {_tests(made)}.")
    if any(group.runs not in differences for group in groups):
        told.append(f"Over, {ANY}: no seed in common, or the predictions are gone.")
    return told


def _level(gains: Sequence[Gain]) -> str:
    return f"p < {LEVEL:g} after Holm's correction for {len(gains)} {'test' if len(gains) == 1 else 'tests'}"


def _tests(gains: Sequence[Gain]) -> str:
    several = "a two-sided t test with seeds and test pictures as crossed random effects"
    one = "McNemar's exact test for one seed, which speaks of the test pictures alone and not of other seeds"
    seeds = [gain.seeds for gain in gains]
    return " and ".join(words for words, used in ((several, max(seeds) > 1), (one, min(seeds) == 1)) if used)


@dataclass(frozen=True)
class Table:
    titles: list[str]
    lines: list[list[str]]
    left: int  # columns that are text
    above: int  # lines that come before the groups
    notes: str


def _tables(
    groups: Sequence[Group], columns: Sequence[str] | None, against: Mapping[str, Any] | None, sort: str | None
) -> list[tuple[str, Table]]:
    """The table of each data set, with what tells it from the others."""
    columns = _chosen(columns, bool(against))
    if sort:
        _check(sort, bool(against))
    sets = data_sets(groups)
    if against and not any(has(group, against) for group in groups):
        matching(groups, against)  # which says what there is
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
            LABEL[row["role"]] + (f" {PICKED}" if row["picked"] else ""),
            *row["values"].values(),
            *(_cell(row, column, known[column]) for column in columns),
        ]
        for row in rows
    ]
    titles = ["network", *headings(names), *(known[column].title for column in columns)]
    return Table(titles, lines, 1 + len(names), above, " ".join(notes(groups, columns, words, differences)))


def _chosen(columns: Sequence[str] | None, against: bool) -> list[str]:
    """The columns of the table, each once; that of the reference comes last where it is not named."""
    for name in columns or ():
        _check(name, against)
    return list(dict.fromkeys([*(columns or DEFAULT), *([OVER] if against else [])]))


def _check(name: str, against: bool) -> None:
    if name == OVER and not against:
        raise ValueError(f"the column {OVER} compares with a reference: say which one, as --against kd=hinton does")
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
            return "=" if difference else ANY
        text = number(difference.spread, column) + (" ↓" if _worse(difference.gain) else "")
        return text.join(BOLD) if _better(difference.gain) else text
    text = number(row[name], column)
    if name == "gain":
        text = "=" if row["own_twin"] else f"{text} ↓" if row["worse"] else text
    return text.join(BOLD) if row["bold"] and name in ("accuracy", "gain") else text


def markdown(
    groups: Sequence[Group],
    columns: Sequence[str] | None = None,
    against: Mapping[str, Any] | None = None,
    sort: str | None = None,
) -> str:
    """Return the paper's table as markdown, with its notes, one of each data set; "" where nothing has finished.

    Args:
        columns: names of COLUMNS, in their order; None for DEFAULT.
        against: settings of the group that all are compared with in a column OVER: ``{"kd": "hinton"}``.
        sort: a column by which the groups' rows descend; None for the order of their values.

    Raises:
        ValueError: no such column; see ``kd.sweeps.grid.matching`` and ``compared``, too.
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
    """Return the same table in LaTeX, which needs \\usepackage{booktabs}; "" where nothing has finished."""
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
