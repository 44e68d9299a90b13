"""Accuracies of different test images are never compared, and the report names its data sets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kd.records.ledger import read_sweep
from kd.report.__main__ import main
from kd.report.sweep import answer
from kd.report.sweep.aggregate import best, cell_rows, claims, groups, picks
from kd.report.sweep.cells_csv import group_rows
from kd.report.sweep.comparison import compared, matching
from kd.report.sweep.report import write_sweep_report
from kd.report.sweep.tables import latex, markdown
from kd.report.sweep.test_sets import data_sets
from kd.report.sweep.view import front_rows, points, views
from tests.report.sweep.fake import make_sweep
from tests.report.sweep.test_report import read
from tests.report.sweep.test_tables import lines_of

FIXED = ("teacher=resnet18", "tracking=disabled")
DRAWN = {"data.drawing_seed": [0, 1]}
GRID = {"temperatures": (1, 4), "alphas": (0.5, 0.9), "seeds": (0, 1), "test": 120}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Two test sets, T, α and seeds; one cell of the second set failed. Read only."""
    folder = tmp_path_factory.mktemp("store") / "sweeps" / "two"
    failed = [{"data.drawing_seed": 1, "kd.temperature": 1, "kd.alpha": 0.5}]
    return make_sweep(folder, more=DRAWN, failed=failed, **GRID)


def strip(folder: Path, runs) -> None:
    """Turn results into those of an older version."""
    for run in runs:
        path = folder.parents[1] / "runs" / run.name / "result.json"
        result = json.loads(path.read_text("utf-8"))
        del result["data"]["content"]
        path.write_text(json.dumps(result), "utf-8")


def titles(sets) -> list:
    """Return the title and the values of the groups of each data set."""
    return [(each.title, [group.values for group in each.groups]) for each in sets]


def test_each_data_set_has_the_numbers_of_a_sweep_over_it_alone(two):
    first, second = views(read_sweep(two))
    assert (first.data, second.data) == ("drawing_seed = 0", "drawing_seed = 1")
    assert [len(first.groups), len(second.groups)] == [4, 3]
    for shown, seed in ((first, 0), (second, 1)):
        failed = [{"kd.temperature": 1, "kd.alpha": 0.5}] if seed else []
        name = two.with_name(f"alone_{seed}")
        (alone,) = views(
            read_sweep(make_sweep(name, fixed=(*FIXED, f"data.drawing_seed={seed}"), failed=failed, **GRID))
        )
        assert repr([(g.values, g.gain, g.metrics) for g in shown.groups]) == repr(  # NaN is never equal to itself
            [(g.values, g.gain, g.metrics) for g in alone.groups]
        )
        assert [group.values for group in shown.picks] == [group.values for group in alone.picks]
        assert (shown.kind, shown.columns, shown.rows) == (alone.kind, alone.columns, alone.rows)
        assert [(p.title, p.states) for p in shown.slices] == [(p.title, p.states) for p in alone.slices]
        assert [(p.name, p.accuracy, p.front) for p in points(shown)] == [
            (p.name, p.accuracy, p.front) for p in points(alone)
        ]
        assert markdown(shown.groups) == markdown(alone.groups)
        assert answer.answer(shown) == answer.answer(alone)


def test_the_report_has_a_section_a_pick_and_figures_of_each(two):
    paths = write_sweep_report(two)
    assert {"accuracy", "curves", "fronts", "confusions", "data2_accuracy", "data2_confusions"} <= set(paths)
    found, document = read(paths), paths["markdown"].read_text("utf-8").replace("\\", "")
    for text in (found.text, document):
        assert "tested on 2 data sets (drawing_seed = 0; drawing_seed = 1)" in text
        assert len(re.findall("Validation picked", text)) == 2
        for seed in (0, 1):
            assert f"drawing_seed = {seed}: Validation picked T = " in text
            for heading in ("accuracy by setting", "accuracy against cost", "the cell that validation picked"):
                assert text.count(f"drawing_seed = {seed}: {heading}") == 1
    assert "for 4 comparisons" in found.text and "for 3 comparisons" in found.text
    assert sum(cell.get("class") == "picked" for line in found.tables["heat large"] for cell in line) == 2
    parts = document.split("## drawing_seed = 1: accuracy by")
    shown = [set(re.findall(r"\(figures/(\w+)\.png\)", part)) for part in parts]
    assert all(name.startswith("data2_") for name in shown[1]) and not any("data2" in name for name in shown[0])
    assert len(shown[0]) == len(shown[1]) == 7


def test_tables_for_papers_and_for_wandb_keep_them_apart(two):
    sweep, found = read_sweep(two), groups(read_sweep(two))
    tables = markdown(found).replace("\\", "").split("Tested on drawing_seed = ")[1:]
    assert [table[0] for table in tables] == ["0", "1"]
    assert all(table.count("| teacher |") == 1 and table.count("†") == 2 for table in tables)  # of the pick, the note
    assert "drawing" not in tables[0].partition("\n")[2]
    typeset = latex(found)
    assert typeset.count(r"\begin{table}") == typeset.count(r"\caption{Tested on drawing\_seed = ") == 2
    rows = group_rows(found)
    assert {(row["data set"], row["data.drawing_seed"]) for row in rows} == {
        ("drawing_seed = 0", 0), ("drawing_seed = 1", 1)
    }  # fmt: skip
    fronts = [row for shown in views(sweep) for row in front_rows(shown, points(shown))]
    assert {row["data set"] for row in fronts} == {"drawing_seed = 0", "drawing_seed = 1"}
    assert len({row["test_set"] for row in cell_rows(sweep) if row["status"] == "done"}) == 2
    assert {row["test_set"] for row in cell_rows(sweep) if row["status"] == "failed"} == {None}


def test_a_reference_is_searched_in_each(two, capsys):
    found = groups(read_sweep(two))
    one = markdown(found, against={"kd.temperature": 4, "kd.alpha": 0.9}).replace("\\", "")
    assert len([line for line in lines_of(one) if line[-1] == "="]) == 2
    only = markdown(found, against={"kd.temperature": 1, "kd.alpha": 0.5}).replace("\\", "")  # failed in the second
    assert "no cell on these test images has kd.temperature=1, kd.alpha=0.5" in only.split("Tested on")[2]
    assert "no cell on these" not in only.split("Tested on")[1]
    named = {"data.drawing_seed": 1, "kd.temperature": 4, "kd.alpha": 0.9}
    assert len([line for line in lines_of(markdown(found, against=named)) if line[-1] == "="]) == 1
    with pytest.raises(ValueError, match="tested on different images"):
        compared(found, matching(found, named))
    assert main([str(two), "--latex", "--against", "kd.temperature=8"]) == 2
    assert "no finished cell of the sweep has kd.temperature=8" in capsys.readouterr().err


def test_settings_of_training_alone_are_compared_and_each_validation_set_has_its_pick(tmp_path):
    more = {"data.label_noise": [0.12, 0.4]}
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.5, 0.9), seeds=(0,), more=more)
    found = groups(read_sweep(folder))
    (shown,) = views(read_sweep(folder))
    assert shown.data == "" and len(shown.groups) == len(claims(found)) == 4
    noises = {noise: [g for g in found if g.values["data.label_noise"] == noise] for noise in (0.12, 0.4)}
    assert [group.values for group in picks(found)] == [best(noises[noise]).values for noise in (0.12, 0.4)]
    assert "validated on 2 sets of images, whose accuracies are not comparable" in answer.answer(shown)
    paths = write_sweep_report(folder)
    assert {"confusions", "confusions_2"} <= set(paths) and "The cells that validation picked" in read(paths).text
    assert markdown(found).count("†") == 3  # two picks and the note


def test_results_of_older_versions_are_read_and_assigned_to_their_data_set(two, tmp_path):
    new = make_sweep(tmp_path / "new" / "sweeps" / "s", more=DRAWN, **GRID)
    before = titles(data_sets(groups(read_sweep(new))))
    runs = sorted({cell.run for cell in read_sweep(new).cells})
    strip(new, runs[::2])  # a sweep that was continued with a newer version
    assert titles(data_sets(groups(read_sweep(new)))) == before
    strip(new, runs[1::2])
    assert titles(data_sets(groups(read_sweep(new)))) == before
    assert "data2_fronts" in write_sweep_report(new)


def test_images_that_changed_under_the_same_settings_are_another_set(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(1, 4), alphas=(0.9,), seeds=(0, 1), test=60)
    for cell in read_sweep(folder).cells:
        if cell.result["seed"] == 1:
            path = cell.run / "result.json"
            result = json.loads(path.read_text("utf-8"))
            result["data"]["content"]["test"] = "others"
            path.write_text(json.dumps(result), "utf-8")
    sets = data_sets(groups(read_sweep(folder)))
    assert [each.title for each in sets] == ["seed = 0", "seed = 1"]
    assert all(group.gain.seeds == 1 for each in sets for group in each.groups)


def test_waiting_cells_are_shown_if_their_images_are_known(tmp_path):
    missing = [{"data.drawing_seed": 1, "kd.alpha": 0.9}, {"data.drawing_seed": 2}]
    folder = make_sweep(
        tmp_path / "sweeps" / "s",
        temperatures=(1, 4),
        alphas=(0.5, 0.9),
        seeds=(0,),
        more={"data.drawing_seed": [0, 1, 2]},
        missing=missing,
        test=60,
    )
    first, second = views(read_sweep(folder))
    assert first.slices[0].states == {}
    assert second.slices[0].states == {(0.9, 1): "waiting", (0.9, 4): "waiting"}
