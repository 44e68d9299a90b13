"""``--best``: the run that ships is the one that validation picks, and the command says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kd.export.best import best_run, choose, read
from kd.records.ledger import read_sweep
from kd.report.sweep.aggregate import best, groups
from tests.report.sweep.fake import make_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """T x alpha x seed: one cell failed, one has not begun. Read only."""
    folder = tmp_path_factory.mktemp("outputs") / "sweeps" / "grid"
    failed, missing = (
        [{"kd.temperature": 1, "kd.alpha": 0, "seed": 2}],
        [{"kd.temperature": 1, "kd.alpha": 0.5, "seed": 0}],
    )
    return make_sweep(folder, failed=failed, missing=missing)


def val_accuracy(run) -> float:
    return json.loads((run / "result.json").read_text("utf-8"))["student"]["training"]["best_val_accuracy"]


def test_the_group_is_the_reports_and_of_its_seeds_the_best_by_validation(sweep, capsys):
    run = best_run(sweep)
    group = best(groups(read_sweep(sweep)))
    assert run in group.runs and len(group.runs) == 3
    assert val_accuracy(run) == max(map(val_accuracy, group.runs))
    said = capsys.readouterr().out
    assert said.startswith(
        f"Validation picked T = {group.values['kd.temperature']}, α = {group.values['kd.alpha']}, of 6"
    )
    assert f"{100 * np.mean([val_accuracy(each) for each in group.runs]):.2f} % (the mean over 3 seeds)" in said
    assert "2 of 18 cells have not finished" in said and str(run) in said


def test_the_test_split_has_no_part(sweep):
    before = choose(read(sweep)).run
    found = read(sweep)
    for cell in found.cells:
        if cell.result:
            cell.result["student"]["accuracy"] = 1 - cell.result["student"]["accuracy"]
    assert choose(found).run == before


def test_one_seed_and_one_cell(tmp_path, capsys):
    folder = make_sweep(tmp_path / "sweeps/one", temperatures=(4,), alphas=(0.9,), seeds=(0, 1))
    runs = [cell.run for cell in read_sweep(folder).cells]
    assert best_run(folder) == max(runs, key=val_accuracy)
    assert "There is one setting: validation accuracy" in capsys.readouterr().out
    folder = make_sweep(tmp_path / "sweeps/seedless", alphas=(0.9,), seeds=None)
    assert "(one seed)" in choose(read(folder)).reason and "Of its seeds" not in choose(read(folder)).reason


def test_cells_of_other_validation_images_have_no_common_best(tmp_path):
    more = {"data.label_noise": [0.1, 0.3]}
    folder = make_sweep(tmp_path / "sweeps/two", temperatures=(4,), alphas=(0.9,), seeds=None, more=more)
    with pytest.raises(ValueError, match="2 sets of images") as error:
        best_run(folder)
    assert all(cell.run.name in str(error.value) for cell in read_sweep(folder).cells)


def test_a_folder_that_is_no_sweep_is_refused_in_a_sentence(sweep, tmp_path):
    run = choose(read(sweep)).run
    with pytest.raises(ValueError, match="it is a run: leave --best out"):
        best_run(run)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="has no sweep.json"):
            best_run(folder)
    (tmp_path / "sweep.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read"):
        best_run(tmp_path)
    (tmp_path / "sweep.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read"):
        best_run(tmp_path)


def test_a_sweep_of_which_nothing_has_finished(tmp_path):
    folder = make_sweep(tmp_path / "sweeps/new", missing=[{}])
    with pytest.raises(ValueError, match="no cell of the sweep has finished"):
        best_run(folder)
