"""Decisions at their limits, and a report that says what report.json holds."""

from __future__ import annotations

import json

import pytest

from kd.export.measure import Scores
from kd.export.report import as_markdown, decide_float, decide_int8, entry, failing, numbers, write_report
from kd.export.terminal import summary

TIMES = {"p50": 1.234, "p95": 2.0, "calm": True}
BUSY = {**TIMES, "calm": False}
LATENCY = {threads: {"batch_1": TIMES, "batch_64": TIMES} for threads in ("all_threads", "one_thread")}
ODD = 'a|b *c* "d" 🦉'


@pytest.mark.parametrize(
    ("same", "count", "ships"), [(1000, 1000, True), (999, 1000, True), (998, 1000, False), (59, 60, False)]
)
def test_a_float_format_ships_from_999_of_1000_on(same, count, ships):
    found, reason = decide_float(Scores(0.9, same / count, 0.3, 0.1), count, tested=True)
    assert found is ships and f"{same:,} of {count:,} test images" in reason


def test_without_test_pictures_nothing_is_promised():
    assert decide_float(Scores(None, 1.0, None, 0.0), 256, tested=False)[0] is None
    assert decide_float(Scores(None, 0.5, None, 9.0), 256, tested=False)[0] is False


@pytest.mark.parametrize(
    ("accuracy", "limit", "ships", "words"),
    [
        (0.90, 1.0, True, "keeps the accuracy"),
        (0.895, 1.0, True, "loses 0.50 points"),
        (0.89, 1.0, False, "loses 1.00 points"),  # less than the limit, not as much
        (0.85, 1.0, False, "loses 5.00 points"),
        (0.85, 6.0, True, "loses 5.00 points"),
        (0.91, 1.0, True, "gains 1.00 points"),
    ],
)
def test_int8_ships_if_it_loses_less_than_the_limit(accuracy, limit, ships, words):
    found, reason = decide_int8(accuracy, 0.90, limit)
    assert found is ships and words in reason and f"{limit:g}" in reason


def make(**more):
    good, bad = Scores(0.9, 1.0, 0.3, 1e-6), Scores(0.7, 0.8, 0.9, 2.5)
    files = [
        entry("student.onnx", "ONNX, float32", "onnxruntime 1", 380_000, good, LATENCY, (True, "agrees")),
        entry("student.int8.onnx", "ONNX, int8", "onnxruntime 1", 108_000, bad, LATENCY, (False, "loses 20 points")),
        entry("student.tflite", "LiteRT", "none", 1024, None, None, (None, "was not run here")),
    ]
    row = numbers(good) | {"size_bytes": 382_000, "latency_ms": LATENCY}
    machine = {"device_name": "a processor", "threads": 2, "torch": "2.14.1", "onnxruntime": "1.32.0"}
    report = {"name": "a_run", "key": "c0ffee" * 10, "classes": ["x", ODD], "test_images": 100, "tested_on": "scenes"}
    report |= {"machine": machine, "max_drop": 1.0, "torch": row, "folded": row, "files": files, "notes": ["a note"]}
    return report | more


def test_the_report_has_a_row_for_each_file_and_says_which_may_not_ship(tmp_path):
    report = make()
    write_report(tmp_path, report)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| student.onnx | ONNX, float32 | 371.1 | 90.00 | 100.00 | 0.3000 | 1.0e-06 | yes |" in text
    assert "| student.int8.onnx | ONNX, int8 | 105.5 | 70.00 | 80.00 | 0.9000 | 2.5e+00 | no |" in text
    assert "| student.tflite | LiteRT | 1.000 | – | – | – | – | not tested |" in text
    assert "`student.int8.onnx` **may not ship**: loses 20 points." in text
    assert (
        "100 images of scenes" in text and "- a note." in text and "1.23 |" in text and "*" not in text.split("##")[0]
    )
    assert [file["file"] for file in failing(report)] == ["student.int8.onnx"]


def test_a_latency_from_a_busy_machine_is_marked():
    busy = {threads: {"batch_1": BUSY, "batch_64": TIMES} for threads in LATENCY}
    report = make(torch=make()["torch"] | {"latency_ms": busy})
    assert "1.23\\*" in as_markdown(report) and "not valid" in as_markdown(report)
    assert "1.23*" in summary(report) and "not valid" in summary(report)
    assert "not valid" not in summary(make())


def test_what_the_terminal_shows():
    lines = summary(make()).splitlines()
    assert lines[0].split()[0] == "file" and lines[2].startswith("torch student")
    assert any(line.startswith("student.int8.onnx") and line.endswith("no") for line in lines)
    assert "student.int8.onnx: loses 20 points." in lines and "a note." in lines


def test_names_of_any_kind_are_escaped():
    text = as_markdown(make(name=ODD, pictures=ODD))
    assert "a\\|b" in text and "\\*c\\*" in text
