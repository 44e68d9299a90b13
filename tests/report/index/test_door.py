"""``python -m kd.report``: it tells an outputs folder from a run and a sweep, refreshes the page, and watches."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from kd.report.__main__ import main
from kd.report.index import watch as watching
from kd.report.index.page import NAME, html
from kd.report.index.scan import scan
from kd.report.index.watch import is_empty_outputs, is_outputs, watch
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
