"""``python -m kd.report``: it tells an outputs folder from a run and a sweep, refreshes the page, and watches."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from kd.report.__main__ import main
from kd.report.index import watch as watching
from kd.report.index.page import NAME, html
from kd.report.index.scan import scan
from kd.report.index.watch import is_empty_outputs, is_outputs, watch
from tests import quickly
from tests.conftest import CONF
from tests.report.index.many import make_outputs
from tests.report.sweep.fake import make_sweep

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("door") / "outputs"
    make_sweep(outputs / "sweeps" / "grid", temperatures=(1, 4), alphas=(0.5,), seeds=(0,))
    return outputs


@pytest.fixture
def outputs(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "outputs"))


def data_of(path: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[1])


def test_the_page_of_an_outputs_folder(outputs, capsys):
    assert main([str(outputs)]) == 0
    printed = capsys.readouterr().out
    assert "2 runs (2 finished), 1 sweep\n" in printed and f"Front page: {outputs / NAME}" in printed
    assert [run["sweeps"] for run in data_of(outputs / NAME)["runs"]] == [["grid"]] * 2


def test_a_run_without_a_teacher_is_finished_all_the_same(outputs):
    run = next((outputs / "runs").iterdir())
    result = json.loads((run / "result.json").read_text())
    result["teacher"] = None
    del result["choices"]["teacher"]
    result["comparison"] |= {name: None for name in ("agreement", "gain_recovered", "accuracy_difference")}
    (run / "result.json").write_text(json.dumps(result))
    shown = next(row for row in scan(outputs).runs if row["id"] == run.name)
    assert shown["state"] == "finished" and shown["accuracy"] == pytest.approx(result["student"]["accuracy"], rel=1e-5)
    assert shown["gain"] is not None and shown["teacher_accuracy"] is None and "teacher" not in shown


@pytest.fixture
def refusing(outputs) -> Path:
    """The sweep with two more cells, which were refused when it began."""
    path = outputs / "sweeps" / "grid" / "sweep.json"
    plan = json.loads(path.read_text())
    plan["cells"] += [["kd=at", f"seed={seed}"] for seed in (0, 1)]
    path.write_text(json.dumps(plan | {"refused": [[["kd=at"], "kd=at compares maps, and a vector is none"]]}))
    return outputs


def test_a_refused_cell_is_shown_with_its_sentence_and_its_sweep_is_finished(refusing, capsys):
    index = scan(refusing)
    (sweep,) = index.sweeps
    assert (sweep["state"], sweep["counts"]["refused"], sweep["counts"]["done"], sweep["total"]) == (
        "finished",
        2,
        2,
        4,
    )
    refused = [row for row in index.runs if row["state"] == "refused"]
    assert [(row["method"], row["seed"]) for row in refused] == [("at", 0), ("at", 1)] and len(index.runs) == 4
    assert {row["message"] for row in refused} == {"kd=at compares maps, and a vector is none"}
    assert all(row["when"] is not None and row["sweeps"] == ["grid"] for row in refused)
    assert main([str(refusing)]) == 0 and "4 runs (2 finished, 2 refused), 1 sweep\n" in capsys.readouterr().out


def test_recovered_gain_is_hidden_where_the_teacher_does_not_lead(outputs):
    run = next((outputs / "runs").iterdir())
    result = json.loads((run / "result.json").read_text())
    shown = lambda: next(row["recovered"] for row in scan(outputs).runs if row["id"] == run.name)  # noqa: E731
    assert shown() == pytest.approx(result["comparison"]["gain_recovered"], rel=1e-5)
    result["teacher"]["accuracy"] = result["baseline"]["accuracy"] - 0.1
    (run / "result.json").write_text(json.dumps(result))
    assert shown() is None


def test_runs_and_sweeps_go_on_as_before(outputs, capsys):
    run = next((outputs / "runs").iterdir())
    assert main([str(run)]) == 0 and "Report: " in capsys.readouterr().out and (run / "report.md").is_file()
    sweep = outputs / "sweeps" / "grid"
    assert main([str(sweep)]) == 0 and (sweep / "report.html").is_file()
    assert main([str(sweep), "--markdown"]) == 0
    assert not (outputs / NAME).exists() and not (run / NAME).exists() and not (sweep / NAME).exists()
    assert not is_outputs(run) and not is_outputs(sweep) and is_outputs(outputs)
    assert main([str(outputs / "runs"), "--markdown"]) == 2  # neither


def test_an_empty_folder_gets_a_sentence(tmp_path, capsys):
    for name in ("teachers", ".locks"):
        assert main([str(tmp_path)]) == 2
        assert "holds no runs yet: `python -m kd.run" in capsys.readouterr().err
        (tmp_path / name).mkdir()
    assert is_empty_outputs(tmp_path) and not is_empty_outputs(tmp_path / "missing")
    (tmp_path / "holiday.jpg").touch()
    assert main([str(tmp_path)]) == 2 and "is missing" in capsys.readouterr().err
    assert main([str(tmp_path / "missing")]) == 2 and main([str(tmp_path / ("x" * 300))]) == 2
    assert list(tmp_path.glob("*.html")) == []


def test_only_an_outputs_folder_can_be_watched(outputs, capsys):
    assert main([str(next((outputs / "runs").iterdir())), "--watch"]) == 2
    assert "--watch follows an outputs folder" in capsys.readouterr().err


def test_no_text_of_a_run_ends_the_data_of_the_page(outputs):
    run = next((outputs / "runs").iterdir())
    result = json.loads((run / "result.json").read_text())
    result["data"]["name"] = result["choices"]["kd"] = result["command"] = EVIL
    (run / "result.json").write_text(json.dumps(result))
    (outputs / "sweeps" / "<b>evil & sweep").mkdir()
    (outputs / "sweeps" / "<b>evil & sweep" / "sweep.json").write_text(EVIL)
    text = html(scan(outputs), outputs / "<i>")
    assert "alert" in text and EVIL not in text and "<img" not in text and "<b>evil" not in text and "<i>" not in text
    assert text.count("<script") == text.count("</script>") == 4
    (outputs / NAME).write_text(text)
    assert EVIL in {run["data"] for run in data_of(outputs / NAME)["runs"]}


def test_the_page_loads_nothing(outputs):
    main([str(outputs)])
    text = (outputs / NAME).read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[a-z]+:""", text) and "@import" not in text


def test_the_page_is_replaced_whole(outputs, monkeypatch):
    main([str(outputs)])
    before = (outputs / NAME).read_text()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        watching.write_index(outputs)
    assert (outputs / NAME).read_text() == before and not list(outputs.glob(f".{NAME}*"))


def test_the_command_finds_a_folder_elsewhere(outputs, monkeypatch):
    more = lambda: json.loads(re.search(r'id="about">(.*?)</script>', (outputs / NAME).read_text())[1])["more"]  # noqa: E731
    main([str(outputs)])
    assert more() == f"outputs={outputs}"
    monkeypatch.setenv("KD_OUTPUTS", str(outputs))
    main([str(outputs)])
    assert more() == ""


def test_watching_writes_the_page_when_something_changed_and_leaves_it_still(tmp_path):
    outputs, seen, over = tmp_path / "outputs", [], threading.Event()
    outputs.mkdir()
    pages = []

    def changed(index) -> None:
        seen.append(len(index.runs))
        pages.append((outputs / NAME).read_text())
        if len(seen) == 1:
            make_outputs(tmp_path / "elsewhere", runs=3, epochs=4)
            (tmp_path / "elsewhere" / "runs").rename(outputs / "runs")  # appears whole
        else:
            over.set()

    watch(outputs, changed, pause=0.01, over=over.is_set)
    assert seen == [0, 3] and all('"reload":1.01' in page for page in pages)
    assert '"reload":0.0' in (outputs / NAME).read_text()  # after it, the page no longer opens itself again


def test_a_page_that_is_watched_is_not_written_without_a_change(outputs, monkeypatch):
    looks, written = [], []
    monkeypatch.setattr(watching, "write_text", lambda path, text: written.append(path))
    watch(outputs, lambda index: None, pause=0.01, over=lambda: looks.append(1) or len(looks) > 4)
    assert len(looks) == 5 and len(written) == 2  # at the start and at the end


def test_a_full_disk_stops_the_watch_only_at_its_start(outputs, monkeypatch, capsys):
    looks, seen = [], []
    write = watching.write_text

    def full(path, text) -> None:
        if len(looks) == 1:
            raise OSError(28, "No space left on device", str(path))
        write(path, text)

    def over() -> bool:
        looks.append(1)
        if len(looks) == 1:
            (outputs / "runs" / "new").mkdir()
        return len(looks) > 2

    monkeypatch.setattr(watching, "write_text", full)
    watch(outputs, lambda index: seen.append(len(index.runs)), pause=0.01, over=over)
    assert seen == [2, 3]  # the new run was shown at the look after
    looks[:] = [1]
    (outputs / "runs" / "another").mkdir()
    assert main([str(outputs), "--watch"]) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_a_signal_ends_the_watch_and_leaves_a_page_that_stays(outputs):
    env = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    watching_it = quickly.start("kd.report", str(outputs), "--watch", cwd=outputs.parent, env=env)
    until = time.monotonic() + 120
    try:
        while not ((outputs / NAME).is_file() and '"reload":5.0' in (outputs / NAME).read_text()):
            assert time.monotonic() < until and watching_it.poll() is None
            time.sleep(0.1)
        watching_it.send_signal(signal.SIGTERM)
        printed, errors = watching_it.communicate(60)
    finally:
        watching_it.kill()
    assert watching_it.returncode == 0 and not errors, errors
    assert "2 runs (2 finished), 1 sweep" in printed and printed.endswith("the same command goes on.\n")
    assert '"reload":0.0' in (outputs / NAME).read_text()
