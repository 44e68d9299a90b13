"""Real runs in every state: finished, under way, interrupted, failed, damaged; the page agrees with their files."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from kd.records.run_folder import MODELS, UNFINISHED
from kd.report.index.scan import run_folders, scan
from kd.report.index.state import DAMAGED, FAILED, FINISHED, INTERRUPTED, UNDER_WAY, state_of
from kd.report.index.watch import write_index
from tests import quickly
from tests.conftest import CONF
from tests.pipeline.test_run import SMALL

QUICK = [*SMALL, "teacher=tiny_cnn", "teacher.width=1", "tracking=disabled", "report=false"]
WAIT = 240  # seconds, on a busy machine


def run(outputs: Path, *words: str, start: bool = False):
    env = {**os.environ, "KD_OUTPUTS": str(outputs), "PYTHONPATH": str(CONF.parent)}
    how = {"cwd": outputs.parent, "env": env}
    return quickly.start("kd.run", *words, **how) if start else quickly.run("kd.run", *words, **how)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sweep of two cells, one of which failed; a run that was killed, and its row while it was under way."""
    outputs = tmp_path_factory.mktemp("real") / "outputs"
    done = run(outputs, "-m", "train.student.lr=0.004,1e12", "sweep=rates", *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    killed = run(outputs, *QUICK, "seed=1", "train.student.epochs=900", start=True)
    until = time.monotonic() + WAIT
    try:
        while not (
            found := [row for row in scan(outputs).runs if row["state"] == UNDER_WAY and " of 900" in row["progress"]]
        ):
            assert time.monotonic() < until and killed.poll() is None
            time.sleep(0.2)
    finally:
        killed.kill()
        killed.wait()
    return outputs, found


@pytest.fixture
def outputs(made, tmp_path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "outputs"))


def row(outputs: Path, state: str) -> dict:
    (found,) = (row for row in scan(outputs).runs if row["state"] == state)
    return found


def test_each_run_has_its_state_and_there_is_one_row_for_each(made):
    outputs, _ = made
    states = sorted(row["state"] for row in scan(outputs).runs)
    assert states == [FAILED, FINISHED, INTERRUPTED] and len(run_folders(outputs)) == 3


def test_a_run_under_way_says_how_far_it_is(made):
    (shown,) = made[1]
    assert shown["progress"].split(",")[0] in ("baseline", "student")
    assert shown["method"] == "hinton" and shown["seed"] == 1 and "seed=1" in shown["command"]


def test_the_newest_is_first(made):
    when = [row["when"] for row in scan(made[0]).runs]
    assert when == sorted(when, reverse=True) and scan(made[0]).runs[0]["state"] == INTERRUPTED


def test_a_finished_run_has_the_numbers_of_its_result(made):
    shown = row(made[0], FINISHED)
    result = json.loads((made[0] / "runs" / shown["id"] / "result.json").read_text("utf-8"))
    for name, value in {
        "accuracy": result["student"]["accuracy"],
        "baseline": result["baseline"]["accuracy"],
        "gain": result["comparison"]["accuracy_gain"],
        "ece": result["student"]["ece"],
        "nll": result["student"]["nll"],
        "size": result["student"]["size_mb"],
        "latency": result["student"]["latency_ms"]["batch_1"]["p50"],
        "minutes": result["seconds"]["total"] / 60,
    }.items():
        assert shown[name] == pytest.approx(value, rel=1e-5, abs=1e-12), name
    assert (shown["data"], shown["teacher"], shown["student"]) == ("scenes", "tiny_cnn", "tiny_cnn")
    assert shown["command"] == result["command"] and "train.student.lr=0.004" in shown["overrides"]
    assert shown["settings"]["train.student.lr"] == 0.004 and shown["settings"]["kd.temperature"] == 2
    assert not [
        key for key in shown["settings"] if "_target_" in key or key.startswith(("tracking", "outputs", "report"))
    ]


def test_a_failed_run_has_its_message_and_the_command_that_makes_it(made):
    shown = row(made[0], FAILED)
    assert (
        "not finite" in shown["message"]
        and shown["sweeps"] == ["rates"]
        and "train.student.lr=1000000000000" in shown["command"]
    )
    assert (made[0] / "runs" / shown["id"] / UNFINISHED).is_file()


def test_a_job_that_failed_before_it_had_a_folder_has_a_row_all_the_same(outputs):
    folder = outputs / "runs" / row(outputs, FAILED)["id"]
    shutil.rmtree(folder)
    shown = row(outputs, FAILED)
    assert "not finite" in shown["message"] and shown["id"] == "rates/2" and not shown["link"]
    assert shown["method"] == "hinton" and shown["data"] == "scenes"  # of the run beside it in the sweep


def test_a_run_of_an_earlier_version_has_an_empty_mark(outputs):
    shown = row(outputs, INTERRUPTED)
    (outputs / "runs" / shown["id"] / UNFINISHED).write_text("")
    again = row(outputs, INTERRUPTED)
    assert again["id"] == shown["id"] and again["settings"]["train.student.epochs"] == 900 and "command" in again


def test_the_sweep_counts_its_cells(made):
    (sweep,) = scan(made[0]).sweeps
    assert sweep["name"] == "rates" and sweep["state"] == "failed" and sweep["swept"] == ["train.student.lr"]
    assert sweep["counts"]["failed"] == 1 and sweep["counts"]["done"] == 1 and sweep["total"] == 2


DAMAGE = {
    "student.safetensors": "student.safetensors has",
    "result.json": "result.json has",
    "sizes.json": "sizes.json cannot be read",
    MODELS: "models.json has",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_shown_as_damaged_and_stops_nothing(outputs, name):
    folder = outputs / "runs" / row(outputs, FINISHED)["id"]
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    _, index = write_index(outputs)
    assert len(index.runs) == 3
    assert row(outputs, DAMAGED)["message"].startswith(DAMAGE[name].partition(" ")[0])
    (folder / name).write_bytes(whole)
    assert row(outputs, FINISHED)["id"] == folder.name


def test_rubbish_stops_nothing(outputs):
    shown, runs = row(outputs, FINISHED), outputs / "runs"
    (runs / shown["id"] / "sizes.json").unlink()
    for k, rubbish in enumerate(("[]", "null", '{"version": 1}', '{"version": 1, "student": 3}', "\x00", "{")):
        (runs / f"rubbish {k}").mkdir()
        (runs / f"rubbish {k}" / "result.json").write_text(rubbish)
    (runs / "empty").mkdir()
    (runs / "a file").write_text("")
    (runs / shown["id"] / "metrics.jsonl").write_bytes(
        b'{"stage": "student", "epoch": 1, "loss": "x"}\n[]\n\xff\n{"sta'
    )
    for k, rubbish in enumerate(("", "[]", "{}")):
        (outputs / "sweeps" / f"rubbish {k}").mkdir()
        (outputs / "sweeps" / f"rubbish {k}" / "sweep.json").write_text(rubbish)
    path, index = write_index(outputs)
    states = [each["state"] for each in index.runs]
    assert states.count(DAMAGED) == 7 and states.count(FINISHED) == 1
    assert [each["state"] for each in index.sweeps].count("damaged") == 3 and path.is_file()


def test_a_lock_tells_a_run_under_way_from_an_interrupted_one(outputs):
    from kd.store.locks import locked
    from kd.store.store import KEY_DIGITS

    shown = row(outputs, INTERRUPTED)
    folder = outputs / "runs" / shown["id"]
    key = json.loads((folder / UNFINISHED).read_text())["key"][:KEY_DIGITS]
    with locked(outputs / ".locks" / f"run-{key}.lock", "the run"):
        assert state_of(folder, outputs).name == UNDER_WAY
        (folder / UNFINISHED).write_text("")  # the key is in the folder's name, too
        assert state_of(folder, outputs).name == UNDER_WAY
    assert state_of(folder, outputs).name == INTERRUPTED
