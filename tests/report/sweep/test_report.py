"""The report of a sweep agrees with its files, finished or not, and loads nothing from the network."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from kd.records.ledger import read_sweep
from kd.records.run_folder import write_result
from kd.report import text as report_text
from kd.report.figures import sweep_curves
from kd.report.run.tables import comparison_rows
from kd.report.sweep import answer, captions, report
from kd.report.sweep.aggregate import best, cell_rows, claims, groups
from kd.report.sweep.cells_csv import group_rows
from kd.report.sweep.names import signed
from kd.report.sweep.report import write_sweep_report
from kd.report.sweep.tables import latex
from kd.report.sweep.view import METRICS, median_cell, one_cost, points, views
from kd.runtime.values import format_value
from kd.sweep.monitor import line_of
from tests.report.sweep.fake import make_sweep

ROOT = Path(__file__).parents[3]
MAPS = {"accuracy", "nll", "ece", "agreement"}
NOT_FINISHED = "This sweep is not finished"
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser finds in a page: addresses, tables, texts."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses, self.scripts, self.tables, self.words = [], 0, {}, []
        self._table = self._cell = None
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [(tag, given[name]) for name in ("src", "href", "srcset", "action", "data") if name in given]
        self.scripts += tag == "script"
        if tag == "table":
            self._table = self.tables.setdefault(given["class"], [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append({**given, "text": ""})
            self._cell = self._table[-1][-1]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self._cell is not None:
            self._cell["text"] += data + " "


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished sweep over T, α and seeds with its report. Read only."""
    folder = make_sweep(
        tmp_path_factory.mktemp("store") / "sweeps" / "grid", temperatures=(1, 2, 4), alphas=(0, 0.5, 0.9)
    )
    return folder, write_sweep_report(folder)


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    shutil.copytree(whole[0].parents[1], tmp_path / "store")
    return tmp_path / "store" / "sweeps" / "grid"


def read(paths) -> Page:
    return Page(paths["html"].read_text("utf-8"))


def test_all_files_are_there(whole):
    folder, paths = whole
    names = MAPS | {"curves", "fronts", "confusions"}
    assert set(paths) == names | {"cells", "markdown", "html"}
    assert all(path.is_file() for path in paths.values())
    for name in names:
        with Image.open(paths[name]) as image:
            assert image.format == "PNG" and image.width > 850
    shown = re.findall(r"!\[([^\n]+)\]\((\S+)\)", paths["markdown"].read_text("utf-8"))
    assert {path for _, path in shown} == {f"figures/{name}.png" for name in names}
    assert all(len(words) > 20 for words, _ in shown)
    with open(paths["cells"], encoding="utf-8", newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 27


def test_the_page_is_one_file_that_loads_nothing(whole):
    page_ = read(whole[1])
    loaded = [address for tag, address in page_.addresses if tag != "a"]
    assert loaded and all(address.startswith("data:") for address in loaded)
    text = whole[1]["html"].read_text("utf-8")
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text
    assert page_.scripts == 1 and len(text) < 2_000_000


def test_the_answer_is_that_of_the_picked_group(whole):
    sweep = read_sweep(whole[0])
    found = groups(sweep)
    picked, tested = best(found), claims(found)
    (shown,) = views(sweep)
    assert [group.values for group in shown.picks] == [picked.values]
    text = answer.answer(shown)
    assert f"gained {100 * picked.gain.mean:.2f} points" in text and "3 seeds" in text
    assert f"T = {picked.values['kd.temperature']}, α = {picked.values['kd.alpha']}." in text
    assert f"{signed(picked.gain.low)} to {signed(picked.gain.high)}" in text
    assert ("more than noise, p" in text) == picked.gain.significant
    assert f"correction for {len(tested)} comparisons" in text and len(tested) == 6
    up = sum(group.gain.significant and group.gain.mean > 0 for group in tested)
    assert f"Of 6 tested combinations of settings, {up} gained more than noise." in text
    assert text in read(whole[1]).text
    assert report_text.escape(text) in whole[1]["markdown"].read_text("utf-8")


def test_the_map_shows_each_group_at_its_place(whole):
    table = read(whole[1]).tables["heat large"]
    assert [cell["text"].strip() for cell in table[0][1:]] == ["1", "2", "4"]
    assert [line[0]["text"].strip() for line in table[1:]] == ["0", "0.5", "0.9"]
    picked = best(groups(read_sweep(whole[0])))
    for group in groups(read_sweep(whole[0])):
        place = [0, 0.5, 0.9].index(group.values["kd.alpha"]), [1, 2, 4].index(group.values["kd.temperature"])
        cell = table[1 + place[0]][1 + place[1]]
        assert cell["text"].split()[0] == f"{100 * group.metrics['accuracy'].mean:.2f}"
        assert (cell.get("class") == "picked") == (group.values == picked.values)
        assert ("*" in cell["text"]) == group.gain.significant
        assert ("baseline" in cell["text"]) == (group.values["kd.alpha"] == 0)
        if group.values["kd.alpha"]:
            assert signed(group.gain.mean) in cell["text"] and "after Holm" in cell["title"]
    shades = [float(cell["style"].split(":")[1]) for line in table[1:] for cell in line[1:]]
    assert min(shades) == 0 and max(shades) == 1


def test_all_cells_are_in_the_table_with_command_and_report(whole):
    folder, paths = whole
    found, sweep = read(paths), read_sweep(folder)
    head, *lines = found.tables["cells"]
    names = [cell["text"].strip() for cell in head]
    assert names[:5] == ["#", "status", "kd.temperature", "kd.alpha", "seed"] and len(lines) == 27
    accuracy = names.index("accuracy (%)")
    for line, cell in zip(lines, sweep.cells, strict=True):
        assert [line[names.index(name)]["text"].strip() for name in cell.values] == list(cell.values.values())
        assert float(line[accuracy]["data-v"]) == pytest.approx(cell.result["student"]["accuracy"])
        assert line[accuracy]["text"].strip() == f"{100 * cell.result['student']['accuracy']:.2f}"
        assert all(override in line[names.index("command")]["text"] for override in (*sweep.fixed, *cell.overrides))
    links = [folder / unquote(address) for tag, address in found.addresses if tag == "a" and "report.md" in address]
    assert len(links) == 27 and all(link.is_file() for link in links)


def test_the_table_of_the_best_cell_is_that_of_its_median_seed(whole):
    (group,) = views(read_sweep(whole[0]))[0].picks
    cell = median_cell(group)
    accuracies = sorted(each.result["student"]["training"]["best_val_accuracy"] for each in group.cells)
    assert cell.result["student"]["training"]["best_val_accuracy"] == accuracies[1]
    found = read(whole[1])
    assert f"seed {cell.result['seed']}, the seed of median validation accuracy" in found.text
    shown = [[cell["text"].strip() for cell in line] for line in found.tables["plain"]]
    assert all(list(row.values()) in shown for row in comparison_rows(cell.result))
    assert "± " in found.text and "(3)" in found.text


def test_students_of_equal_cost_are_reported_as_such(whole):
    (shown,) = views(read_sweep(whole[0]))
    found = points(shown)
    assert one_cost(found) and [point.kind for point in found].count("student") == 9
    assert [point.kind for point in found].count("teacher") == [point.kind for point in found].count("baseline") == 1
    assert "not what they cost" in captions.costs(shown, found)
    top = max((point for point in found if point.kind == "student"), key=lambda point: point.accuracy)
    assert {point.name for point in found if point.kind == "student" and point.front["macs"]} == {top.name}


def test_cells_that_were_timed_on_a_busy_machine_are_on_no_front_and_are_counted(tmp_path):
    """A number that is a hundred times too small or too large would decide the front."""
    folder = make_sweep(
        tmp_path / "sweeps" / "busy", temperatures=(1, 4), alphas=None, seeds=(0,), more={"student.width": [1, 2]}
    )
    sweep = read_sweep(folder)
    disturbed = sweep.cells[0]
    for times in disturbed.result["student"]["latency_ms"].values():
        times |= {"p50": 1e-3 * times["p50"], "calm": False}
    write_result(disturbed.run, disturbed.result)
    (shown,) = views(read_sweep(folder))
    students = [point for point in points(shown) if point.kind == "student"]
    alike = [point for point in students if point.costs["macs"] == min(each.costs["macs"] for each in students)]
    assert len(alike) == 2 and len({point.costs["latency_1"] for point in alike}) == 1, "the other cell's measurement"
    assert alike[0].costs["latency_1"] > 1
    row = cell_rows(read_sweep(folder))[0]
    assert row["latency_1"] is row["latency_large"] is row["throughput"] is None and row["latency_one_thread"] > 0
    assert "1 cell timed the student while other processes used the machine" in read(write_sweep_report(folder)).text


def test_a_sweep_on_a_machine_that_was_always_busy_has_a_report_too(tmp_path):
    folder = make_sweep(tmp_path / "sweeps" / "busy", temperatures=(1, 4), alphas=None, seeds=(0,))
    for cell in read_sweep(folder).cells:
        for model in ("teacher", "student", "baseline"):
            for times in cell.result[model]["latency_ms"].values():
                times["calm"] = False
        write_result(cell.run, cell.result)
    paths = write_sweep_report(folder)
    found = read(paths)
    assert "2 cells timed the student while other processes used the machine" in found.text and "nan" not in found.text
    alt = "Test accuracy against MACs (millions), size (MB), with the front of each"
    assert alt in paths["html"].read_text("utf-8") and paths["fronts"].is_file()


def test_unfinished_failed_and_missing_cells(tmp_path):
    folder = make_sweep(
        tmp_path / "sweeps" / "partial",
        alphas=(0.5, 0.9),
        failed=[{"kd.temperature": 1, "kd.alpha": 0.9}],
        missing=[{"kd.temperature": 4, "kd.alpha": 0.9, "seed": 0}, {"kd.temperature": 4, "kd.alpha": 0.5}],
        running=[{"kd.temperature": 1, "kd.alpha": 0.5, "seed": 2}],
    )
    paths = write_sweep_report(folder)
    found = read(paths)
    assert f"{NOT_FINISHED}: 4 of 12 cells finished, 1 running, 3 failed, 4 waiting" in found.text
    assert "kd.alpha=0.9 kd.temperature=1 seed=0 failed: ArithmeticError: the loss is nan at epoch 2" in found.text
    table = found.tables["heat large"]
    assert [line[0]["text"].strip() for line in table[1:]] == ["0.5", "0.9"]
    assert table[2][1]["class"] == "none" and table[2][1]["text"].strip() == "failed"
    assert table[1][2]["class"] == "none" and table[1][2]["text"].strip() == "waiting"
    assert len(found.tables["cells"]) == 13
    document = paths["markdown"].read_text("utf-8")
    assert NOT_FINISHED in document and "the loss is nan" in document


def test_a_sweep_without_a_finished_cell(tmp_path):
    folder = make_sweep(
        tmp_path / "sweeps" / "begun", alphas=(0.5, 0.9), failed=[{"seed": 0}], missing=[{"seed": 1}, {"seed": 2}]
    )
    (folder / "figures").mkdir()
    (folder / "figures" / "old.png").write_bytes(b"of a report on other cells")
    paths = write_sweep_report(folder)
    assert set(paths) == {"cells", "markdown", "html"} and not list((folder / "figures").iterdir())
    assert "No cell is finished yet" in read(paths).text and NOT_FINISHED in read(paths).text
    assert "No cell is finished yet" in paths["markdown"].read_text("utf-8")
    nothing = make_sweep(tmp_path / "sweeps" / "empty", missing=[{}])
    assert "18 waiting" in read(write_sweep_report(nothing)).text


SHAPES = {  # what is swept beside seeds -> kind, slices, figures
    "one number": ({"alphas": (0.9,)}, "curve", 1, MAPS),
    "names": ({"temperatures": None, "alphas": None, "more": {"teacher": ["resnet18", "resnet34"]}}, "dots", 0, MAPS),
    "seeds alone": ({"temperatures": None, "alphas": None}, "dots", 0, MAPS),
    "a third number": ({"alphas": (0.5, 0.9), "more": {"student.width": [1, 2]}}, "grid", 2, MAPS | {"curves"}),
    "no baseline": ({"alphas": (0.5, 0.9), "baseline": False}, "grid", 1, MAPS | {"curves"}),
}


def test_one_swept_name_is_shown_once_and_not_in_every_row(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(sweep_curves, "dots", lambda names, *more: drawn.append((names, more[-1])))
    more = {"kd": ["at", "dkd", "hinton"]}
    folder = make_sweep(
        tmp_path / "sweeps" / "x", temperatures=None, alphas=None, more=more, seeds=(0,), baseline=False, test=60
    )
    (shown,) = views(read_sweep(folder))
    _, words = report.draw_dots(shown, METRICS[0])
    ((names, title),) = drawn
    accuracy = {group.values["kd"]: group.metrics["accuracy"].mean for group in shown.groups}
    assert names == sorted(accuracy, key=lambda name: -accuracy[name]) and title == "Test accuracy (%) by kd"
    assert words.endswith("for 3 values of kd")


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_was_swept(tmp_path, shape):
    options, kind, slices, names = SHAPES[shape]
    fixed = (
        ("tracking=disabled",) if "teacher" in options.get("more", {}) else ("teacher=resnet18", "tracking=disabled")
    )
    folder = make_sweep(tmp_path / "sweeps" / "x", **{"seeds": (0, 1), "fixed": fixed, "test": 120} | options)
    (shown,) = views(read_sweep(folder))
    assert (shown.kind, len(shown.slices)) == (kind, slices)
    paths = write_sweep_report(folder)
    assert set(paths) == names | {"fronts", "confusions", "cells", "markdown", "html"}
    found = read(paths)
    assert answer.answer(shown) in found.text
    if shape == "no baseline":
        assert "cannot say what distillation gained" in found.text and "gain (points)" not in found.text
    if shape == "a third number":
        assert not one_cost(points(shown)) and "The line joins the networks that no other beats" in found.text
        assert [part.title for part in shown.slices] == ["width = 1", "width = 2"]
    if shape == "names":
        assert {point.name for point in points(shown) if point.kind == "teacher"} == {"resnet18", "resnet34"}


def test_too_many_slices_are_left_out_and_the_report_mentions_it(tmp_path):
    widths = [1, 1.25, 1.5, 1.75, 2, 2.25, 2.5]
    folder = make_sweep(
        tmp_path / "sweeps" / "x",
        alphas=(0.5, 0.9),
        seeds=(0,),
        more={"student.width": widths},
        fixed=("teacher=resnet18",),
        test=60,
    )
    (shown,) = views(read_sweep(folder))
    assert len(shown.slices) == 1 and shown.left_out == 6
    assert shown.slices[0].title == f"width = {format_value(shown.picks[0].values['student.width'])}"
    assert "7 slices" in captions.left_out(shown) and "With one seed" in answer.answer(shown)


def test_null_and_true_have_one_spelling_everywhere(tmp_path):
    more = {"train.student.ema": ["null", 0.9], "train.channels_last": ["True", "False"]}  # as Hydra passes them on
    folder = make_sweep(
        tmp_path / "sweeps" / "x",
        temperatures=None,
        alphas=None,
        seeds=(0, 1),
        more=more,
        failed=[{"train.student.ema": 0.9, "train.channels_last": "True", "seed": 1}],
        test=60,
    )
    plan = json.loads((folder / "sweep.json").read_text("utf-8"))
    (folder / "sweep.json").write_text(json.dumps({**plan, "command": "as it was typed"}), "utf-8")
    paths, sweep = write_sweep_report(folder), read_sweep(folder)
    texts = [paths[name].read_text("utf-8") for name in ("html", "markdown", "cells")]
    texts += [latex(groups(sweep)), json.dumps([group_rows(groups(sweep)), cell_rows(sweep)], default=str)]
    texts += [line_of(cell, 1, 1) for cell in sweep.cells if cell.status != "done"]
    for text in texts:
        for word in re.findall(r"(?<![\w/.])(?:None|True|False)(?![\w/.])", text.partition("<script>")[0]):
            raise AssertionError(f"{word} in {text[max(0, text.index(word) - 80) :][:160]}")
    assert all("null" in text and "true" in text for text in texts[:4])
    with open(paths["cells"], encoding="utf-8", newline="") as lines:
        assert {line["train.student.ema"] for line in csv.DictReader(lines)} == {"null", "0.9"}, "null is a value"


def test_a_figure_without_a_place_on_the_page_is_an_error_before_it_is_saved(copy, monkeypatch):
    def one_more(shown, found):
        return {**drawn(shown, found), "roc": (None, "a curve without a place on a page")}

    drawn = report.draw_figures
    monkeypatch.setattr(report, "draw_figures", one_more)
    with pytest.raises(ValueError, match="no place on the page shows the figure roc"):
        write_sweep_report(copy)
    assert not (copy / "figures" / "roc.png").exists()


def test_a_search_is_drawn_as_a_scatter_plot(tmp_path):
    folder = make_sweep(
        tmp_path / "sweeps" / "x",
        temperatures=(1, 2, 3, 4, 5, 6),
        alphas=(0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        seeds=(0,),
        test=60,
    )
    plan = json.loads((folder / "sweep.json").read_text("utf-8"))
    for path in (folder / "cells").iterdir():
        values = dict(override.split("=") for override in json.loads(path.read_text("utf-8"))["overrides"])
        if float(values["kd.alpha"]) * 10 != int(values["kd.temperature"]) + 3:
            path.unlink()
    (folder / "sweep.json").write_text(json.dumps({**plan, "cells": None, "trials": 10}), "utf-8")
    paths = write_sweep_report(folder)
    assert views(read_sweep(folder))[0].kind == "scatter" and "curves" not in paths
    assert "6 of 10 cells finished" in read(paths).text and "4 waiting" in read(paths).text


def test_all_text_of_a_sweep_is_escaped(copy):
    """No browser runs what errors, overrides, class names or machines contain, and no table breaks."""
    odd = copy.with_name("a&b <i>")
    copy.rename(odd)
    plan = json.loads((odd / "sweep.json").read_text("utf-8"))
    plan["command"] += f" student.name='{EVIL}'"
    plan["fixed"] += [f"data.root='{EVIL}|`'"]
    (odd / "sweep.json").write_text(json.dumps(plan), "utf-8")
    first = next((odd / "cells").iterdir())
    cell = json.loads(first.read_text("utf-8"))
    first.write_text(json.dumps({**cell, "status": "failed", "error": f"ValueError: {EVIL} | \"'"}), "utf-8")
    for path in (odd.parents[1] / "runs").glob("*/result.json"):
        text = path.read_text("utf-8").replace('"forest"', json.dumps(EVIL)).replace("a processor", EVIL)
        path.write_text(text, "utf-8")
    paths = write_sweep_report(odd)
    found = read(paths)
    assert found.scripts == 1 and EVIL not in paths["html"].read_text("utf-8")
    assert found.text.count(EVIL) > 5  # shown as it is
    assert "a&b <i>" in found.text
    document = paths["markdown"].read_text("utf-8")
    outside = re.sub(r"```.*?```", "", document, flags=re.DOTALL)
    assert EVIL not in outside and "\\<script\\>" in outside


def test_the_report_made_again_is_the_same(copy):
    first = {name: path.read_bytes() for name, path in write_sweep_report(copy).items()}
    assert first == {name: path.read_bytes() for name, path in write_sweep_report(copy).items()}


def test_a_folder_that_is_not_a_sweep_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a sweep"):
        write_sweep_report(tmp_path)


def test_it_is_quick_and_needs_no_torch(whole, tmp_path):
    code = "import sys, kd.report.sweep.report as r; r.write_sweep_report(sys.argv[1]); print('torch' in sys.modules)"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(whole[0])], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "False", done.stderr
    assert time.monotonic() - began < 40  # 4 s on a core to itself
