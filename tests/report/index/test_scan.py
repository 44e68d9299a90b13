"""What the page holds of a run: curves that can be drawn again, settings, and only what changed is read again."""

from __future__ import annotations

import array
import base64
import json
import math
import os
from pathlib import Path

import pytest

from kd.report.index import scan as scanning
from kd.report.index.curves import GAP, POINTS, curves_of, pack, progress, read_rows
from kd.report.index.facts import of_command, shortened, typed
from kd.report.index.page import encode
from kd.report.index.page import read_rows as read_page
from kd.report.index.scan import scan
from kd.report.index.watch import write_index
from tests.report.index.many import make_outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return make_outputs(tmp_path_factory.mktemp("many"), runs=60, epochs=12)


def unpack(packed: list) -> list[float | None]:
    low, high, text = packed
    numbers = array.array("H", base64.b64decode(text))
    return [None if number == GAP else low + (high - low) * number / (GAP - 1) for number in numbers]


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.9, 0.4], [None, 2.0, None, -3.5e4], [1.0, 1.0], [0.0, 1e-9]])
def test_a_packed_curve_can_be_drawn_again(values):
    known = [value for value in values if value is not None]
    again = unpack(pack(values))
    assert [value is None for value in again] == [value is None for value in values]
    step = (max(known) - min(known)) / (GAP - 1)
    for value, other in zip(values, again, strict=True):
        assert value is None or other == pytest.approx(value, abs=0.51 * step + 1e-5 * abs(value))


def test_nothing_is_packed_where_nothing_was_logged():
    assert pack([None, None]) is None and pack([]) is None


def test_a_curve_keeps_first_and_last_epoch_and_is_thinned():
    rows = [{"stage": "student", "epoch": k, "loss": 1 / k} for k in range(1, 1001)]
    curve = curves_of(rows)["student"]
    assert len(curve["epoch"]) == POINTS and (curve["epoch"][0], curve["epoch"][-1]) == (1, 1000)
    assert unpack(curve["loss"])[0] == pytest.approx(1) and "val_accuracy" not in curve
    assert curves_of(rows[:12])["student"]["epoch"] == 12  # epochs from 1 on are a number


def test_an_epoch_that_was_logged_twice_counts_once_and_what_is_not_finite_is_a_gap():
    rows = [{"stage": "student", "epoch": e, "loss": loss} for e, loss in ((1, 9.0), (2, math.nan), (1, 3.0), (3, 1.0))]
    curve = curves_of(rows)["student"]
    assert curve["epoch"] == 3
    first, second, third = unpack(curve["loss"])
    assert (first, third) == (pytest.approx(3), pytest.approx(1)) and second is None


def test_the_share_of_each_term_is_kept_with_its_progress():
    def measured(at: float, share: float) -> dict:
        terms = {
            "hard": {"norm": 1, "share": 1 - share, "cosine": 1.0},
            "at": {"norm": 2, "share": share, "cosine": None},
        }
        return {"progress": at, "terms": terms}

    rows = [{"stage": "student", "epoch": 1, "gradients": [measured(0.0, 0.9), measured(0.1, 0.8)]}]
    rows += [
        {"stage": "student", "epoch": 2, "loss": 1.0},
        {"stage": "student", "epoch": 3, "gradients": [measured(1.0, 0.4)]},
    ]
    found = curves_of(rows)["student"]["gradients"]
    assert found["progress"] == [0.0, 0.1, 1.0] and found["share"]["at"] == [0.9, 0.8, 0.4]
    assert found["cosine"] == {"hard": [1.0, 1.0, 1.0], "at": [None, None, None]}
    assert "gradients" not in curves_of(rows[1:2])["student"]
    rubbish = [{"stage": "student", "epoch": 1, "gradients": gradients} for gradients in (3, [1], [{"terms": 4}])]
    assert all("gradients" not in curves_of([row])["student"] for row in rubbish)


def test_a_half_line_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"stage": "student", "epoch": 1}\n{"stage": "stud')
    assert read_rows(tmp_path / "metrics.jsonl") == [{"stage": "student", "epoch": 1}]
    assert read_rows(tmp_path / "missing") == []


def test_progress_names_the_role_and_its_epochs():
    settings = {"train.teacher.epochs": 30, "train.student.epochs": 60}
    said = [progress([{"stage": stage, "epoch": 4}], settings) for stage in ("teacher", "baseline", "student")]
    assert said == ["teacher, epoch 4 of 30", "baseline, epoch 4 of 60", "student, epoch 4 of 60"]
    assert progress([], settings) == "" and progress([{"stage": "student", "epoch": 4}], {}) == "student, epoch 4"


def test_numbers_are_short_and_json_can_hold_them():
    assert shortened(0.123456789) == 0.123457 and shortened(21286724) == 21286724
    assert [shortened(value) for value in (math.nan, math.inf, None, "x", True)] == [None] * 5


def test_settings_as_typed_leave_out_what_has_a_column_or_no_consequence():
    command = (
        "python -m kd.run kd=at kd.weight=3 'data.root=/a b' seed=1 outputs=/x report=false tracking.mode=disabled"
    )
    assert typed(command) == ["kd.weight=3", "data.root=/a b"] and typed("python 'broken") == []
    facts = of_command("python -m kd.run kd=at student=vgg8 seed=2", {"data": "scenes", "method": "dkd"})
    assert (facts["method"], facts["student"], facts["data"], facts["seed"]) == ("at", "vgg8", "scenes", 2)


def test_every_curve_is_in_the_page_once(outputs):
    index = scan(outputs)
    data, curves = encode(index)
    texts = [json.dumps(curve) for curve in curves]
    assert len(set(texts)) == len(texts)
    for run, shown in zip(index.runs, data["runs"], strict=True):
        assert {role: curves[at] for role, at in shown["curves"].items()} == run["curves"]
        if run["settings"]:
            assert data["shared"] | shown["settings"] == run["settings"]


def test_the_page_holds_what_the_scan_found(outputs):
    path, index = write_index(outputs)
    kept = read_page(path)
    for run in index.runs:
        assert kept[run["id"]] == {name: value for name, value in run.items() if value not in (None, "", [])}


def test_only_what_changed_is_read_again(outputs, monkeypatch):
    path, before = write_index(outputs)
    read = []
    monkeypatch.setattr(scanning, "read_rows", lambda file: read.append(file.parent.name) or read_rows(file))
    _, again = write_index(outputs)
    strip = lambda rows: [{k: v for k, v in row.items() if v not in (None, "", [])} for row in rows]  # noqa: E731
    damaged = {run["id"] for run in before.runs if run["state"] == "damaged"}
    assert set(read) == damaged and strip(again.runs) == strip(before.runs)
    changed = next(run["id"] for run in before.runs if run["state"] == "finished")
    read.clear()
    os.utime(outputs / "runs" / changed / "metrics.jsonl", (1, 1))
    _, again = write_index(outputs)
    assert set(read) == {changed, *damaged} and again.runs[-1]["id"] == changed  # now the oldest
    path.write_text("no page")
    read.clear()
    write_index(outputs)
    assert len(read) == 60
