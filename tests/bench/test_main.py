"""The command: real runs of a few images, its files, and its wrong arguments."""

from __future__ import annotations

import copy
import json
import re
import sys
from contextlib import redirect_stdout

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from kd.bench.__main__ import MEASURES, NAMES, main
from kd.bench.jobs import JOBS
from kd.bench.parts import PARTS
from kd.bench.table import markdown, sweep_rows
from kd.report.figures.benchmark import benchmark
from tests.bench.conftest import TINY

SMALL = ["--images=24", "--batch-size=8", "--image-size=32", "--workers=1", "--rounds=2", *TINY]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a benchmark of two jobs with all usual measurements."""
    folder = tmp_path_factory.mktemp("made")
    with (folder / "said.txt").open("w", encoding="utf-8") as said, redirect_stdout(said):
        assert main(["--jobs=naive,cached", f"--out={folder}", *SMALL]) == 0
    return folder


def test_the_jobs_take_turns_after_a_warm_up(made):
    said = (made / "said.txt").read_text(encoding="utf-8")
    order = re.findall(r"^(warm-up|round \d) +(\w+) +\w+ +[\d.]+ images/s$", said, re.MULTILINE)
    assert order == [(turn, job) for turn in ("warm-up", "round 1", "round 2") for job in ("naive", "cached")]


@pytest.fixture(scope="module")
def found(made):
    return json.loads((made / "bench.json").read_text(encoding="utf-8"))


def test_the_json_holds_every_figure(found):
    assert list(found["jobs"]) == ["naive", "cached"] and found["rounds"] == 2
    for job in found["jobs"].values():
        assert len(job["epoch_seconds"]) == 2 and job["warm_up_seconds"] > 0 and job["images"] == 24
        speed = job["images_per_s"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]
        assert set(job["parts"]) == set(PARTS) and job["floor_seconds"] > 0
        assert job["ceiling_share"] == pytest.approx(job["floor_seconds"] / job["epoch_seconds_median"])
        if sys.platform == "linux":
            assert job["memory"]["host_bytes"] > 50 * 2**20
    assert found["jobs"]["cached"]["prepare_seconds"]["logit_cache"] > 0
    machine = found["machine"]
    assert machine["threads"] >= 1 and machine["cores"] >= 1
    two = found["two_at_once"]
    assert len(two["alone"]) == len(two["together"]) == 2 and two["lost"] < 1
    assert found["start_up"].get("seconds", 1) > 0
    assert found["ceiling"]["rates"]["float32"]["flops_per_s"] > 0


def test_the_page_and_the_figure_are_written(made, found):
    page = (made / "bench.md").read_text(encoding="utf-8")
    assert page == markdown(found)
    for words in ("| naive | float32 |", "× naive", "share of ceiling", "student forward", "Two at once", "Start-up"):
        assert words in page
    with Image.open(made / "bench.png") as image:
        assert image.width > 800


SCALING = [
    {"axis": axis, "value": value, "job": job, "images_per_s": 100.0 * n, "host_bytes": 2**29, "left_out": None}
    for axis in ("batch_size", "image_size", "students")
    for job in ("live", "cached")
    for n, value in enumerate((32, 64, 128, 256, 512, 1024), 1)
]
SWEEP = {
    "cells": 12,
    "epochs": 1,
    "naive": {"teacher": 10.0, "students": 120.0, "total": 130.0},
    "ours": {"teacher": 8.0, "students": 12.0, "total": 40.0},
    "recipe_epochs": {"teacher": 7, "student": 6},
    "fill_seconds": 2.0,
}


def test_scaling_and_sweep_are_in_the_page(found):
    whole = {**found, "scaling": copy.deepcopy(SCALING), "sweep": SWEEP}
    whole["scaling"][0] |= {"images_per_s": None, "left_out": "killed by the system, probably for memory"}
    page = markdown(whole)
    assert "killed by the system" in page and "12 cells" in page
    naive, ours = sweep_rows(whole)
    assert naive["extrapolated (s)"] == "790"  # 130 + 6 * 10 + 5 * 120
    assert ours["extrapolated (s)"] == "158"  # 40 + 6 * 8 + 5 * 12 + 5 * 2
    assert ours["extrapolated × naive"] == "5.00" and ours["× naive"] == "3.25"


def test_no_label_of_the_figure_lies_on_another(found):
    job = found["jobs"]["cached"]
    jobs = {**found["jobs"], "torchdistill": found["jobs"]["naive"], "cached float32": job}
    jobs["one_pass"] = {**{name: value for name, value in job.items() if name != "parts"}, "students": 4}
    figure = benchmark({**found, "jobs": jobs, "scaling": SCALING})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    unseen = set()
    for axis in (axis for ax in figure.findobj(Axes) for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in unseen
    ]
    assert len(boxes) > 40
    for number, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert not [other for other, there in boxes[number + 1 :] if box.overlaps(there)], text


def test_every_job_can_be_chosen():
    assert set(NAMES) == set(JOBS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs=naiv"], "'naiv' is none of naive"),
        (["--measure=speed"], f"'speed' is none of {', '.join(MEASURES)}"),
        (["--rounds=0"], "must be 1 or more"),
        (["--students=1,x"], "--students"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_wrong_setting_ends_the_command(tmp_path, capsys):
    assert main(["--jobs=naive", f"--out={tmp_path}", *SMALL, "kd=dkd"]) == 2
    assert capsys.readouterr().err.strip() == "kd.bench: the benchmark compares programs by kd=hinton, got kd=dkd"


@pytest.mark.slow
def test_a_real_sweep(tmp_path):
    assert main(["--jobs=cached", "--measure=sweep", f"--out={tmp_path}", *SMALL, "latency.batch=4"]) == 0
    sweep = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["sweep"]
    assert {"naive", "ours", "ours, one pass"} <= set(sweep)
    assert all(sweep[name]["total"] > sweep[name]["students"] > 0 for name in ("naive", "ours", "ours, one pass"))
