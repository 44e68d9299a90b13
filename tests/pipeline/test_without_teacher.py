"""Runs whose method reads no teacher: none is made, and every page says so and what is compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from reference.result_json import unlike

import kd
from kd.export.card import write_card
from kd.report.run.report import write_report
from kd.report.run.tables import comparison_rows, terminal_table
from tests.conftest import compose
from tests.pipeline.test_keys import keys
from tests.pipeline.test_run import run

FAST = ("train.threads=1", "train.student.epochs=1", "report=false")
SENTENCE = "There is no teacher: kd=ps_kd reads none. The student is compared with the baseline"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("alone")
    return outputs, *run(outputs, "kd=ps_kd", *FAST, kd="ps_kd", attention="vea")


def test_no_teacher_is_trained_or_measured(made):
    outputs, folder, result = made
    assert sorted(path.name for path in outputs.iterdir() if path.name[0] != ".") == [
        "costs",
        "data",
        "runs",
        "students",
    ]
    assert result["teacher"] is None and "teacher" not in result["seconds"]
    of_baseline = {"accuracy_gain", "mcnemar_p"}
    assert {name for name, value in result["comparison"].items() if value is not None} == of_baseline
    assert sorted(np.load(folder / "predictions.npz").files) == ["baseline", "index", "student", "target"]
    stages = {json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"baseline", "student"}
    assert not {"teacher", "attention"} & set(result["choices"]) and "vea" not in folder.name
    assert unlike(result)[0] == set(), "every field is described"


def test_the_teacher_of_the_settings_is_not_in_the_key(made):
    outputs, folder, result = made
    one, other = (keys("kd=ps_kd", more, reads=False) for more in ("teacher=resnet34", "train.teacher.epochs=3"))
    assert one["run"] == other["run"] and one["student"] == other["student"] and one["teacher"] != other["teacher"]
    again, _ = run(outputs / "again", "kd=ps_kd", "teacher=tiny_cnn", *FAST, kd="ps_kd", teacher="tiny_cnn")
    assert again.name == folder.name and result["key"].startswith(folder.name.rpartition("-")[2])


def test_report_table_and_terminal_say_so_and_compare_with_the_baseline(made):
    _, folder, result = made
    files = write_report(folder)
    text = (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    shown = " ".join(terminal_table(result).split())
    assert SENTENCE in text and SENTENCE in shown
    assert "## Student and baseline" in text and "student vs baseline" in text and "kd=ps_kd" in text
    assert not {"confusion_teacher", "predictions_teacher", "disagreement", "attention"} & files.keys()
    assert {"overview", "training", "confusion_difference", "reliability"} <= files.keys()
    for words in ("than the teacher", "agreement with the teacher", "Gain recovered", "speed-up", "vea_resnet18"):
        assert words not in text and words not in shown
    assert "istillation" not in text.partition("## What was run")[0]
    gain = 100 * (result["student"]["accuracy"] - result["baseline"]["accuracy"])
    accuracy = next(row for row in comparison_rows(result) if row["metric"] == "accuracy (%)")
    assert list(accuracy) == ["metric", "student", "baseline", "student vs baseline", "better"]
    assert not gain or f"{abs(gain):.2f} points" in accuracy["student vs baseline"]


def test_without_a_baseline_too_nothing_is_compared(made):
    _, _, result = made
    alone = {**result, "baseline": None}
    assert list(comparison_rows(alone)[0]) == ["metric", "student", "better"]
    assert "there is no baseline to compare the student with" in " ".join(terminal_table(alone).split())


def test_its_models_and_its_card_speak_of_no_teacher(made, tmp_path):
    _, folder, result = made
    assert set(json.loads((folder / "models.json").read_text())) == {"student", "baseline"}
    with pytest.raises(ValueError, match="has no teacher; it has"):
        kd.load(folder, "teacher")
    write_card(tmp_path, kd.load(folder), folder, {})
    card = (tmp_path / "README.md").read_text(encoding="utf-8").replace("\\", "")
    assert "knowledge-distillation" not in card and "ps_kd" in card.partition("\n---\n")[0], "its tags"
    assert "without a teacher" in card and "## How it was trained" in card and "istilled" not in card
    assert "| teacher" not in card and "attention" not in card and SENTENCE in card


def test_a_term_of_weight_zero_needs_no_teacher_either(tmp_path):
    """alpha = 0: the student is the baseline, and nothing is trained twice."""
    _, result = run(tmp_path, "kd.alpha=0", *FAST)
    assert result["teacher"] is None and not (tmp_path / "teachers").exists()
    assert result["student"]["accuracy"] == result["baseline"]["accuracy"]
    assert len(list((tmp_path / "students").iterdir())) == 1


@pytest.mark.parametrize("method", ["ps_kd", "dml"])
def test_its_micro_batches_are_found_without_one(method, tmp_path):
    from kd.pipeline.batch_size import try_stage
    from kd.pipeline.prepare import prepare
    from tests.pipeline.test_run import SMALL

    choices = {"data": "scenes", "teacher": "vea_resnet18", "student": "tiny_cnn", "kd": method}
    plan = prepare(compose(*SMALL, f"kd={method}", f"outputs={tmp_path}"), choices)
    assert not plan.teachers and [spec.role for spec in plan.taught] == ["student"]
    try_stage(plan, plan.stages["student"], 1)
