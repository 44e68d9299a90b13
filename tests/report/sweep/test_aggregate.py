"""From a sweep's folder to groups, gains and rows."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from kd.evaluation.statistics import crossed_t, holm
from kd.records.ledger import Sweep, read_sweep
from kd.report.sweep.aggregate import METRICS, best, cell_rows, claims, distinct, groups, picking, spread
from kd.runtime.values import flatten
from tests.conftest import compose
from tests.report.sweep.fake import make_sweep

ROOT = Path(__file__).resolve().parents[3]
FAILED, MISSING = {"kd.temperature": 4, "kd.alpha": 0.5, "seed": 1}, {"kd.temperature": 4, "kd.alpha": 0.5, "seed": 2}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    """T x alpha x seed: one cell failed, one has not begun, one is running. Read only."""
    folder = tmp_path_factory.mktemp("outputs") / "sweeps" / "grid"
    running = [{"kd.temperature": 2, "kd.alpha": 0.9, "seed": 2}]
    make_sweep(folder, temperatures=(10, 2, 4), failed=[FAILED], missing=[MISSING], running=running)
    return read_sweep(folder)


def test_cells_that_differ_in_the_seed_alone_are_a_group(sweep):
    found = groups(sweep)
    assert [tuple(group.values.values()) for group in found] == [(t, a) for t in (2, 4, 10) for a in (0, 0.5, 0.9)]
    assert list(found[0].values) == ["kd.temperature", "kd.alpha"]  # in the order of the command
    assert [group.seeds for group in found] == [(0, 1, 2)] * 2 + [(0, 1), (0, 1, 2), (0,)] + [(0, 1, 2)] * 4
    group = found[5]
    results = [json.loads((run / "result.json").read_text("utf-8")) for run in group.runs]
    assert all((r["settings"]["kd.temperature"], r["settings"]["kd.alpha"]) == (4, 0.9) for r in results)
    expected = {
        "accuracy": [r["student"]["accuracy"] for r in results],
        "nll": [r["student"]["nll"] for r in results],
        "val_accuracy": [r["student"]["training"]["best_val_accuracy"] for r in results],
        "agreement": [r["comparison"]["agreement"] for r in results],
        "gain": [r["student"]["accuracy"] - r["baseline"]["accuracy"] for r in results],
        "recovered": [r["comparison"]["gain_recovered"] for r in results],
        "epoch_seconds": [r["student"]["training"]["seconds"] / 4 for r in results],
        "baseline_accuracy": [r["baseline"]["accuracy"] for r in results],
        "latency_large": [r["student"]["latency_ms"]["batch_64"]["p50"] for r in results],
        "macs": [r["student"]["macs"] for r in results],
    }
    for name, values in expected.items():
        spread = group.metrics[name]
        assert (spread.mean, spread.std, spread.n) == pytest.approx((np.mean(values), np.std(values, ddof=1), 3)), name
    assert group.metrics["teacher_accuracy"].n == 1  # all three seeds have the same teacher
    assert math.isnan(found[4].metrics["accuracy"].std)
    assert group.gain.mean == pytest.approx(group.metrics["gain"].mean)


def test_gains_are_tested_on_the_predictions_and_corrected_for_their_number(sweep):
    found = groups(sweep)
    several = [group for group in found if group.gain.seeds > 1 and not group.equals_baseline]
    for group in several:
        student, baseline = [], []
        for run in group.runs:
            with np.load(run / "predictions.npz") as arrays:
                student.append(arrays["student"].argmax(1) == arrays["target"])
                baseline.append(arrays["baseline"].argmax(1) == arrays["target"])
        oracle = crossed_t(np.array(student), np.array(baseline))
        assert (group.gain.low, group.gain.high, group.gain.p) == (oracle.low, oracle.high, oracle.p)
    (alone,) = [group for group in found if group.gain.seeds == 1]
    assert alone.gain.p == alone.cells[0].result["comparison"]["mcnemar_p"]  # the p of the run's own report
    made = claims(found)
    assert len(made) == 6
    assert claims([*found, replace(found[5], values={})]) == made  # the same runs under another name: no new claim
    np.testing.assert_allclose([group.gain.p_holm for group in made], holm([group.gain.p for group in made]))
    assert all(group.gain.significant == (group.gain.p_holm < 0.05) for group in made)


def test_alpha_0_is_one_run_at_every_temperature_and_no_claim(sweep):
    baselines = [group for group in groups(sweep) if group.equals_baseline]
    assert [group.values for group in baselines] == [{"kd.temperature": t, "kd.alpha": 0} for t in (2, 4, 10)]
    assert len({group.runs for group in baselines}) == 1
    for group in baselines:
        gain = group.gain
        assert (gain.mean, gain.low, gain.high, gain.p_holm, gain.significant) == (0, 0, 0, 1, False)


def test_validation_picks_by_the_measure_that_all_cells_were_picked_by(sweep):
    def measured(group, place, by="macro_f1"):
        training = {"picked_by": by, "best_val_accuracy": place / 10, f"best_val_{by}": 1 - place / 10}
        cells = []
        for cell in group.cells:
            student = {**cell.result["student"], "training": {**cell.result["student"]["training"], **training}}
            cells.append(replace(cell, result={**cell.result, "student": student}))
        own = {name: spread([METRICS[name](cell.result) for cell in cells]) for name in METRICS if "val" in name}
        return replace(group, cells=tuple(cells), metrics={**group.metrics, **own})

    found = groups(sweep)
    by_f1 = [measured(group, place) for place, group in enumerate(found)]
    assert picking(by_f1) == "macro_f1" and best(by_f1) is by_f1[0]
    mixed = [*by_f1[:-1], measured(found[-1], 8, "balanced_accuracy")]  # a sweep over train.pick_by
    assert picking(mixed) == "accuracy" == picking(found) and best(mixed) is mixed[-1]


def test_validation_picks_and_the_first_of_equals(sweep):
    found = groups(sweep)

    def with_val(group, value):
        val = replace(group.metrics["val_accuracy"], mean=value)
        return replace(group, metrics={**group.metrics, "val_accuracy": val})

    assert best(found).metrics["val_accuracy"].mean == max(g.metrics["val_accuracy"].mean for g in found)
    worst = min(range(9), key=lambda k: found[k].metrics["accuracy"].mean)  # on the test split
    changed = [with_val(group, 0.9 if k in (worst, 8) else 0.5) for k, group in enumerate(found)]
    assert best(changed) is changed[worst]
    with pytest.raises(ValueError, match="no cell"):
        best([])


def test_rows_of_cells(sweep):
    rows = cell_rows(sweep)
    assert len(rows) == 27 and len({tuple(row) for row in rows}) == 1
    by = {(row["kd.temperature"], row["kd.alpha"], row["seed"]): row for row in rows}
    assert [row["number"] for row in rows] == list(range(1, 28))
    failed, waiting = by[4, 0.5, 1], by[4, 0.5, 2]
    assert failed["status"] == "failed" and "loss is nan" in failed["error"] and failed["accuracy"] is None
    assert waiting["status"] == "waiting" and waiting["run"] is waiting["seconds"] is waiting["error"] is None
    assert by[2, 0.9, 2]["status"] == "running"
    shared = [by[t, 0, 1] for t in (10, 2, 4)]
    assert [row["status"] for row in shared] == ["done", "found", "found"]
    assert len({row["run"] for row in shared}) == 1 and shared[0]["gain"] == 0
    done = by[4, 0.9, 0]
    result = json.loads((sweep.folder / done["run"] / "result.json").read_text("utf-8"))
    assert done["accuracy"] == result["student"]["accuracy"] and done["gain"] == result["comparison"]["accuracy_gain"]
    assert done["latency_1"] == result["student"]["latency_ms"]["batch_1"]["p50"]
    assert done["mcnemar_p"] == result["comparison"]["mcnemar_p"]
    assert done["recovered"] == result["comparison"]["gain_recovered"]
    assert done["epoch_seconds"] == result["student"]["training"]["seconds"] / 4


def test_the_command_of_a_cell_runs_that_cell_alone(tmp_path):
    fixed = ("teacher=resnet18", "hydra/launcher=kd", "tracking=disabled", "augment.flip=0", "outputs=my runs")
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.5, 0.9), seeds=(0,), fixed=fixed[:1])
    sweep = replace(read_sweep(folder), fixed=(*fixed, "sweep=s", "kd.temperature=4", "seed=0"))
    words = shlex.split(cell_rows(sweep)[1]["command"])
    assert words[:3] == ["python", "-m", "kd.run"] and not {"hydra/launcher=kd", "sweep=s"} & {*words}
    settings = dict(flatten(OmegaConf.to_container(compose(*words[3:]), resolve=True)))
    assert (settings["kd.alpha"], settings["kd.temperature"], settings["outputs"]) == (0.9, 4, "my runs")
    assert list(groups(sweep)[1].overrides) == words[3:]


def test_a_swept_group_and_a_third_setting(tmp_path):
    more = {"teacher": ["resnet34", "resnet18"], "student.width": [2, 0.5]}
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0, 0.9), seeds=(0,), more=more, fixed=())
    found = groups(read_sweep(folder))
    names = {"kd.alpha": [0, 0.9], "teacher": ["resnet18", "resnet34"], "student.width": [0.5, 2]}
    assert {name: distinct(found, name) for name in names} == names and len(found) == 8
    assert found[0].values == {"kd.alpha": 0, "teacher": "resnet18", "student.width": 0.5}
    assert found[-1].cells[0].result["choices"]["teacher"] == "resnet34"
    params = {group.values["student.width"]: group.metrics["params"].mean for group in found}
    assert params[2] == 377_880


def test_without_seeds_every_cell_is_a_group(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(1, 4), alphas=(0.9,), seeds=None)
    found = groups(read_sweep(folder))
    assert [group.values for group in found] == [{"kd.temperature": 1}, {"kd.temperature": 4}]
    assert all(group.gain.seeds == 1 and group.metrics["accuracy"].n == 1 for group in found)
    assert "seed" not in cell_rows(read_sweep(folder))[0]


def test_seeds_alone_are_one_group(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.9,), seeds=(2, 0, 1))
    (group,) = groups(read_sweep(folder))
    assert group.values == {} and group.seeds == (0, 1, 2)
    assert group.overrides == ("teacher=resnet18", "tracking=disabled", "kd.temperature=4", "kd.alpha=0.9")


def test_two_spellings_of_a_number_are_one_run_and_count_once(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4, 4.0), alphas=(0.9,), seeds=(0, 1))
    sweep = read_sweep(folder)
    (group,) = groups(sweep)
    assert len(sweep.cells) == 4 and group.seeds == (0, 1) and group.metrics["accuracy"].n == 2


def test_another_seed_of_the_teacher_is_not_pooled(tmp_path):
    folder = make_sweep(
        tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.9,), seeds=(0, 1), more={"teacher.seed": [0, 1]}
    )
    assert [group.values for group in groups(read_sweep(folder))] == [{"teacher.seed": 0}, {"teacher.seed": 1}]


def test_without_baselines_there_is_no_gain(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.5, 0.9), seeds=(0, 1), baseline=False)
    sweep = read_sweep(folder)
    found = groups(sweep)
    assert all(group.gain is None and group.metrics["gain"].n == 0 for group in found)
    assert not claims(found)
    assert cell_rows(sweep)[0]["gain"] is cell_rows(sweep)[0]["mcnemar_p"] is None


def test_other_test_images_are_refused_and_without_predictions_no_gain_is_tested(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", temperatures=(4,), alphas=(0.9,), seeds=(0, 1))
    path = read_sweep(folder).cells[1].run / "predictions.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez(path, **kept | {"target": kept["target"][::-1]})
    with pytest.raises(ValueError, match="tested on different images"):
        groups(read_sweep(folder))
    np.savez(path, **{name: array for name, array in kept.items() if name != "baseline"})
    with pytest.raises(ValueError, match="has no baseline"):
        groups(read_sweep(folder))
    path.unlink()
    (group,) = groups(read_sweep(folder))
    assert group.gain is None and group.metrics["gain"].n == 2


def test_nothing_has_finished(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "s", missing=[{"seed": 0}, {"seed": 1}], failed=[{"seed": 2}])
    assert groups(read_sweep(folder)) == []
    assert {row["status"] for row in cell_rows(read_sweep(folder))} == {"waiting", "failed"}


def test_the_numbers_need_neither_torch_nor_seaborn():
    code = "import sys, kd.report.sweep.aggregate, kd.report.sweep.tables; "
    code += "print({'torch', 'seaborn', 'scipy', 'hydra'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
