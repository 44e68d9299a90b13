"""cells.csv of a sweep, and its table for papers."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pandas
import pytest

from kd.records.ledger import read_sweep
from kd.report.sweep.aggregate import Group, best, cell_rows, claims, groups
from kd.report.sweep.cells_csv import cells_csv
from kd.report.sweep.tables import headings, latex, markdown, paper_rows
from tests.report.sweep.fake import make_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Five seeds and 1,200 images: enough to tell a gain from noise. Read only."""
    folder = tmp_path_factory.mktemp("outputs") / "sweeps" / "grid"
    failed = [{"kd.temperature": 1, "kd.alpha": 0.1, "seed": 3}]
    make_sweep(folder, temperatures=(1, 4), alphas=(0, 0.1, 0.9), seeds=range(5), failed=failed, test=1200)
    return read_sweep(folder)


@pytest.fixture(scope="module")
def found(sweep) -> list[Group]:
    return groups(sweep)


def lines_of(table: str) -> list[list[str]]:
    """The cells of a markdown table."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_csv_has_every_cell_and_every_digit(sweep):
    rows = cell_rows(sweep)
    read = list(csv.DictReader(io.StringIO(cells_csv(rows))))
    assert len(read) == 30 and list(read[0]) == list(rows[0])
    for line, row in zip(read, rows, strict=True):
        for name, value in row.items():
            assert line[name] == "" if value is None else type(value)(line[name]) == value, name
    frame = pandas.read_csv(io.StringIO(cells_csv(rows)))
    numbers = ["kd.temperature", "kd.alpha", "seed", "accuracy", "gain", "mcnemar_p", "params", "latency_1", "seconds"]
    assert all(pandas.api.types.is_numeric_dtype(frame[name]) for name in numbers)
    assert frame["accuracy"].isna().sum() == 1 and frame["accuracy"].max() == max(r["accuracy"] or 0 for r in rows)
    assert cells_csv([]) == ""


def test_csv_keeps_an_error_in_one_line(sweep):
    rows = [
        {**row, "error": 'ValueError: "a",\n  b' if row["status"] == "failed" else None} for row in cell_rows(sweep)
    ]
    text = cells_csv(rows)
    assert len(text.splitlines()) == 31
    assert [line["error"] for line in csv.DictReader(io.StringIO(text)) if line["error"]] == ['ValueError: "a", b']


def test_paper_rows_teacher_baseline_and_a_row_a_group(found):
    rows = paper_rows(found)
    assert [row["role"] for row in rows] == ["teacher", "baseline"] + ["student"] * 5
    assert rows[0]["values"] == rows[1]["values"] == {"kd.temperature": "–", "kd.alpha": "–"}
    assert rows[0]["accuracy"].n == 1 and rows[0]["accuracy"].mean == found[0].metrics["teacher_accuracy"].mean
    assert rows[1]["accuracy"] == found[0].metrics["baseline_accuracy"] and rows[1]["accuracy"].n == 5
    assert rows[1]["agreement"] == found[0].metrics["agreement"]  # alpha = 0 is the baseline
    shared = rows[2]
    assert shared["values"] == {"kd.temperature": "1, 4", "kd.alpha": "0"} and shared["equals_baseline"]
    assert [row["values"]["kd.alpha"] for row in rows[3:]] == ["0.1", "0.9", "0.1", "0.9"]
    assert rows[3]["accuracy"].n == 4  # one failed
    assert [row["bold"] for row in rows[3:]] == [group.gain.significant for group in claims(found)]
    assert any(row["bold"] for row in rows) and not all(row["bold"] for row in rows[3:])
    (picked,) = [row for row in rows if row["picked"]]
    assert picked["accuracy"] == best(found).metrics["accuracy"]


def test_markdown_is_bold_only_where_the_gain_is_significant(found):
    head, _, *lines = lines_of(markdown(found))
    assert head[:3] == ["network", "T", "α"] and head[3] == "accuracy (%)" and head[-1] == "gain (points)"
    student = [line for line in lines if line[0].startswith("student")]
    groups_of = {(line[1], line[2]): line for line in student}
    for group in claims(found):
        line = groups_of[tuple(map(str, group.values.values()))]
        bold = [cell.startswith("**") and cell.endswith("**") for cell in line]
        wanted = group.gain.significant
        assert bold == [False, False, False, wanted, *[False] * 4, wanted]
        spread = group.metrics["accuracy"]
        assert line[3].strip("*") == f"{100 * spread.mean:.2f} ± {100 * spread.std:.2f} ({spread.n})"
        assert line[-1].strip("*")[0] in "+−"
    assert groups_of["1, 4", "0"][-1] == "="
    assert [line[1:3] for line in lines if "†" in line[0]] == [list(map(str, best(found).values.values()))]
    notes = markdown(found).split("\n\n")[1]
    for words in ("1,200 test images", "Holm's correction for 4 tests", "crossed random effects", "validation"):
        assert words in notes
    assert "McNemar" not in notes


def test_latex_has_its_structure(found):
    text = latex(found)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r" \\")]
    columns = re.search(r"\\begin\{tabular\}\{(l+r+)\}", text)[1]
    assert len(columns) == 9 and len(lines) == 1 + 7
    assert all(len(re.findall(r"(?<!\\)&", line)) == 8 for line in lines)
    depth = 0
    for bare in re.sub(r"\\[{}]", "", text.split("\n", 1)[1]):
        depth += {"{": 1, "}": -1}.get(bare, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", text) == ["table", "tabular", "tabular", "table"]
    assert body.count(r"\midrule") == 2
    assert text.count(r"\textbf{") == 2 * sum(row["bold"] for row in paper_rows(found))
    assert not re.findall(r"(?<!\\)[%#]", text.split("\n", 1)[1]) and text.isascii()
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    commands = set(re.findall(r"\\([a-z]+)", text.split("\n", 1)[1]))
    booktabs = {"toprule", "midrule", "bottomrule"}
    plain = {"begin", "end", "caption", "centering", "textbf", "pm", "dagger", "alpha"}
    assert commands <= booktabs | plain


def test_latex_and_markdown_escape_what_was_swept(found):
    odd = [replace(group, values={"x.a_b": r"50%_{x}|&\$~^#", "y.a_b": k}) for k, group in enumerate(found)]
    assert headings(["x.a_b", "y.a_b", "z.c"]) == ["x.a_b", "y.a_b", "c"]
    text = latex(odd)
    assert r"50\%\_\{x\}|\&\textbackslash{}\$\textasciitilde{}\textasciicircum{}\#" in text
    assert r"x.a\_b" in text
    assert all(len(line) == 9 for line in lines_of(markdown(odd)))


def test_a_significant_loss_is_marked_and_not_bold(found):
    (row,) = [row for row in paper_rows(found) if row["picked"]]
    assert row["bold"] and "↓" not in markdown(found)

    def lost(group):
        if not group.gain.significant:
            return group
        metrics = group.metrics | {"gain": replace(group.metrics["gain"], mean=-group.gain.mean)}
        return replace(group, metrics=metrics, gain=replace(group.gain, mean=-group.gain.mean))

    text = markdown([lost(group) for group in found])
    assert "**" not in text and re.search(r"\| −\d+\.\d\d ± \d\.\d\d \(5\) ↓ \|", text) and "a loss that is" in text
    assert r"$\downarrow$" in latex([lost(group) for group in found])


def test_the_note_on_one_seed_names_the_test_images_alone(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(1, 4), alphas=(0.5,), seeds=None)
    text = markdown(groups(read_sweep(folder)))
    assert "McNemar's exact test for one seed, which covers the test images alone" in text
    assert "crossed random effects" not in text
    assert re.search(r"\| \d\d\.\d\d \(1\) \|", text) and "nan" not in text


def test_every_teacher_and_every_baseline_has_its_row(tmp_path):
    more = {"teacher": ["resnet18", "resnet34"], "student.width": [1, 2]}
    folder = make_sweep(
        tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.5, 0.9), seeds=(0, 1), more=more, fixed=()
    )
    found = groups(read_sweep(folder))
    rows = paper_rows(found)
    found_rows = [(row["role"], *row["values"].values()) for row in rows]
    assert found_rows[:4] == [
        ("teacher", "–", "resnet18", "–"),
        ("teacher", "–", "resnet34", "–"),
        ("baseline", "–", "–", "1"),
        ("baseline", "–", "–", "2"),
    ]
    assert len(rows) == 4 + 8 and rows[2]["accuracy"].n == 2
    assert rows[2]["agreement"] is None  # with which of the two teachers?
    assert [line[:4] for line in lines_of(markdown(found))[0:1]] == [["network", "α", "teacher", "width"]]


def test_without_baselines_and_without_cells(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.5, 0.9), seeds=(0,), baseline=False)
    text = markdown(groups(read_sweep(folder)))
    assert "| baseline |" not in text and "Nothing is bold" in text and "**" not in text
    assert paper_rows([]) == [] and markdown([]) == latex([]) == ""
