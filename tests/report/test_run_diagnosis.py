"""The section of a run's report that says what limits it, and its figure."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.diagnose.evidence import read_evidence
from kd.diagnose.verdict import diagnose
from kd.records.run_folder import ReportError
from kd.report.figures import style
from kd.report.figures.diagnosis import diagnosis_panels
from kd.report.run import report
from kd.report.run.diagnosis import section
from tests.report.test_run_report import CLASSES, make_run


def _measured(progress: float, norm: float) -> dict:
    terms = {"hard": {"norm": 1.0, "share": 1 / (1 + norm), "cosine": 1.0}}
    return {"progress": progress, "terms": terms | {"at_1": {"norm": norm, "share": norm / (1 + norm), "cosine": 0.1}}}


@pytest.fixture(scope="module")
def ill(tmp_path_factory) -> Path:
    """A run with views and gradients whose added term drowns the labels."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = make_run(folder, gates=False)
    result["settings"] |= {"kd.weights.hard": 1.0, "kd.weights.at_1": 1000.0, "kd.balance": None}
    result["objective"] = {"reads": ["features"], "label_terms": ["hard"], "temperature": None, "shares": {"at_1": 0.5}}
    result["objective"] |= {"weight_settings": {"at_1": {"key": "kd.at.weight", "mixes": False}}}
    result["objective"] |= {"takes_mixtures": True, "takes_unlabelled": True}
    with np.load(folder / "predictions.npz") as arrays:
        logits = {name: arrays[name] for name in ("teacher", "student", "baseline")}
        np.savez(folder / "training_views.npz", index=np.arange(120), target=arrays["target"], **logits)
        swapped = {"student": arrays["baseline"], "baseline": arrays["student"]}
        np.savez(folder / "predictions.npz", **{name: swapped.get(name, arrays[name]) for name in arrays.files})
    result["student"], result["baseline"] = result["baseline"], result["student"]
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        if row["stage"] == "student":
            row["gradients"] = [_measured(0.0, 100.0), _measured(0.1, 40.0), _measured(1.0, 20.0)][: row["epoch"]]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def test_the_report_says_what_limits_the_run(ill):
    text = report.write_report(ill)["report"].read_text("utf-8")
    part = text.split("## Does the teacher teach?")[1].split("\n## ")[0]
    assert re.search(r"harms here: \d+\.\d\d points less|does not clearly help", part)
    assert "](figures/diagnosis.png)" in part
    assert "drowned by at\\_1: before the first step it has 99.0 % of the gradient" in part
    assert "Try `kd.at.weight=5` or `kd.balance=auto`." in part, "half of 1/100 of the weight"
    assert "| 10 % of the training | at\\_1 | 97.6 | 40 | +0.10 |" in part
    diagnosis = diagnose(read_evidence(ill))
    for role, scores in diagnosis.figures["accuracy"].items():
        assert f"| {role} | {' | '.join(f'{100 * scores[split]:.1f}' for split in ('views', 'val', 'test'))} |" in part
    assert "<details><summary>Agreement of student and teacher by class" in part and "ice \\| snow" in part


def test_without_views_gradients_or_baseline_the_section_says_less(tmp_path):
    make_run(tmp_path / "run", baseline=False, gates=False)
    parts = section(diagnose(read_evidence(tmp_path / "run")), [])
    text = "\n".join(parts)
    assert "Without a baseline a run cannot say" in text and "training\\_views.npz" in text
    assert "not measured" in text and "Gradient of each" not in text and "| – |" in text


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_the_figure_has_a_panel_for_what_the_run_has(ill, tmp_path, panels):
    figures = diagnose(read_evidence(ill)).figures
    if panels < 3:
        figures |= {"gradients": None}
    if panels < 2:
        figures |= {"gain": {"accuracy": 0.1, "p": 0.2}, "answers": None}  # of a method without a teacher
    figure = diagnosis_panels(figures)
    assert len(figure.axes) == panels
    words = {text.get_text() for ax in figure.axes for text in ax.texts}
    assert panels == 1 or f"{figures['gain']['can_gain']:,}" in words
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layout that does not fit is a warning
        style.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width == round(style.WIDTH * style.DPI)


def test_views_without_labels_are_left_out(ill, tmp_path):
    with np.load(ill / "training_views.npz") as arrays:
        views = {name: arrays[name] for name in arrays.files}
    whole = read_evidence(ill)
    for count, expected in ((100, 20), (120, None)):
        target = np.where(np.arange(120) < count, -1, views["target"])
        folder = tmp_path / str(count)
        make_run(folder, gates=False)
        np.savez(folder / "training_views.npz", **views | {"target": target})
        found = read_evidence(folder).views
        assert found is None if expected is None else len(found["student"]) == expected
    assert len(whole.views["student"]) == 120 and len(CLASSES) == whole.views["student"].shape[1]


def test_a_report_refuses_views_of_other_networks(ill, tmp_path):
    make_run(tmp_path / "run", gates=False)
    np.savez(tmp_path / "run" / "training_views.npz", target=np.zeros(3, int), teacher=np.zeros((3, 4)))
    with pytest.raises(ReportError, match='training_views.npz: the array "student" is missing'):
        report.write_report(tmp_path / "run")
