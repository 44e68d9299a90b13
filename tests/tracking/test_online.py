"""The tracker online, with the real wandb and a stand-in server on 127.0.0.1.

One process plays all runs, one after the other, as a sweep does; the tests look at what arrived.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tracking.scenario import metrics, play
from tests.tracking.wandb_server import Server

SCENARIO = """
import time, urllib.request
import kd.tracking.wandb_run
from kd.tracking.sweep_report import publish_report
from PIL import Image

root.mkdir()
Image.new("RGB", (40, 20), "red").save(root / "confusion.png")
(root / "student.safetensors").write_bytes(b"weights" * 1000)
config = {"kd.temperature": 4.0, "kd.alpha": 0.9, "student.width": 2, "seed": 3, "teacher.seed": 7,
          "choices.attention": "vea", "choices.kd": "hinton", "choices.data": "scenes"}
merits = {"student": {"accuracy": 0.8, "macs": 23, "training": {"best_val_accuracy": 0.85}},
          "teacher": {"accuracy": 0.9, "training": {"best_val_accuracy": 0.95}},
          "baseline": {"accuracy": 0.7, "training": {"best_val_accuracy": 0.75}}, "comparison": {"accuracy_gain": 0.1}}

def switch(query):
    urllib.request.urlopen(os.environ["WANDB_BASE_URL"] + "/switch?" + query).read()

def online(name, **more):
    more = {"config": config, "group": "study", "job_type": "distill", "mode": "online", "timeout": 5} | more
    return tracker(name, **more)

def end(tracker, f1=0.5):
    tables = {"per_class": [{"class": "sea", "f1": f1}]}  # another number, another artifact
    figures = {"confusion_student": root / "confusion.png", "confusion_teacher": root / "confusion.png"}
    tracker.finish(merits, figures, tables, {"student": root / "student.safetensors"})

def mark(text):
    print(text, file=sys.stderr)

for name in ("first", "second"):
    with online(name, tags=["one"]) as t:
        t.sibling("teacher", run_id="id-teacher", name="the teacher")
        t.sibling("baseline", run_id="id-baseline", name="the baseline")
        for stage in ("teacher", "baseline", "student"):
            rows(t, stage, 3)
        end(t)
    print(f"hint of {name}: {t.hint()}")

for epochs in ((1, 2, 3), (1, 2, 3, 4, 5)):  # started again
    with online("restarted") as t:
        for epoch in epochs:
            t.log({"stage": "student", "epoch": epoch, "loss": 1 / epoch})

with online("outage") as t:
    for epoch in range(1, 9):
        if epoch in (3, 6):
            switch(f"down={int(epoch == 3)}")
        t.log({"stage": "student", "epoch": epoch, "loss": 1 / epoch})
        time.sleep(0.15)
    end(t, 0.6)

mark("refused begins")
switch("refused=CommitArtifact")
with online("refused") as t:
    t.finish(merits, {}, {}, {"student": root / "student.safetensors"})
switch("refused=")
mark("refused ends")

publish_report(root, run_id="id-report", name="report of study", group="study", mode="online",
               config={"sweep": "study", "command": "data.root=/home/somebody"},
               figures={"accuracy": root / "confusion.png"},
               tables={"cells": [{"T": 4, "accuracy": 0.8, "run": "/home/somebody"}]},
               summary={"best": {"accuracy": 0.8}})
with tracker("later", config=config) as t:  # offline
    t.sibling("teacher", run_id="id-other-teacher", name="another teacher")
    for stage in ("teacher", "student"):
        rows(t, stage, 3)
    end(t, 0.7)
print(f"hint of later: {t.hint()}")
kd.tracking.wandb_run.FINISH_TIMEOUT = 1
mark("away begins")
with online("away", timeout=1) as t:
    t.sibling("teacher", run_id="id-third-teacher", name="a third teacher")
    rows(t, "teacher", 2)
    rows(t, "student", 2)
    switch("down=1")
    for epoch in (3, 4):
        t.log({"stage": "student", "epoch": epoch, "loss": 1 / epoch})
    began = time.monotonic()
    end(t, 0.8)
print(f"away took {time.monotonic() - began:.1f} s")
print(f"hint of away: {t.hint()}")
began = time.monotonic()
with online("after", timeout=10) as t:
    rows(t, "student", 2)
print(f"after took {time.monotonic() - began:.1f} s")
mark("away ends")
"""


class Played:
    """What the scenario did, on the server and on the terminal. Sends the unsent rest on first use."""

    def __init__(self, folder: Path, server: Server):
        self.folder, self.server = folder, server
        done, self.home = play(folder, SCENARIO, **server.environment())
        assert done.returncode == 0, done.stderr
        self.out, self.err = done.stdout, done.stderr
        server.down = False

    def warnings(self, part: str) -> list[str]:
        return self.err.partition(f"{part} begins\n")[2].partition(f"{part} ends\n")[0].splitlines()

    def hint(self, name: str) -> str:
        return re.search(rf"hint of {name}: (.*\n(?:send: .*)?)", self.out)[1]

    def send(self, name: str) -> str:
        """Run the command of the hint in a shell, in the folder where the run was started."""
        command = re.search(r"^send: (.*)$", self.hint(name), re.MULTILINE)[1]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | self.server.environment() | {"PATH": path, "HOME": str(self.home)}
        quiet = {"capture_output": True, "text": True, "timeout": 60}
        done = subprocess.run(command, shell=True, cwd=self.folder, env=environment, **quiet)
        assert done.returncode == 0, done.stderr
        return command

    def number(self, words: str) -> float:
        return float(re.search(rf"{words} ([\d.]+) s", self.out)[1])


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    with Server() as server:
        yield Played(tmp_path_factory.mktemp("online"), server)


def curve(run, name: str = "student/loss") -> list[tuple[int, float]]:
    """By step, as W&B keeps history: what was sent before an outage and again after it is one row."""
    rows = {row["_step"]: row for row in run.history if name in row}
    return [(row["epoch"], row[name]) for row in rows.values()]


def test_a_cell_is_a_run_with_its_group_and_job_type_its_flat_config_and_its_summary(played):
    run = played.server.runs["id-first"]
    assert (run.name, run.project, run.group, run.job_type, run.tags) == ("first", "kd", "study", "distill", ["one"])
    assert run.exit_code == 0
    assert {run.config[name] for name in ("kd.temperature", "temperature")} == {4}
    names = ("alpha", "width", "attention", "method", "seed", "kd.alpha")
    assert [run.config[name] for name in names] == [0.9, 2, "vea", "hinton", 3, 0.9]
    assert not any(isinstance(value, dict) for value in run.config.values())
    names = ("student/accuracy", "teacher/accuracy", "comparison/accuracy_gain", "test/accuracy", "val/accuracy")
    assert [run.summary[name] for name in names] == [0.8, 0.9, 0.1, 0.8, 0.85]


def test_history_is_plotted_over_epochs(played):
    assert curve(played.server.runs["id-first"]) == [(1, 1), (2, 0.5), (3, 1 / 3)]


def test_figures_tables_and_the_student_arrive_with_their_bytes(played):
    run = played.server.runs["id-first"]
    image = run.summary["figures/confusion_student"]
    assert run.files[image["path"]] == (played.folder / "outputs" / "confusion.png").read_bytes()
    assert b'"sea"' in run.files[run.summary["per_class"]["path"]]
    artifact = played.server.artifact("student-id-first")
    assert (artifact.type, artifact.state, artifact.run) == ("model", "COMMITTED", "id-first")
    assert artifact.files == {"student.safetensors": b"weights" * 1000}
    assert artifact.metadata["student/accuracy"] == 0.8 and list(artifact.manifest["contents"]) == [*artifact.files]


def test_teacher_and_baseline_are_runs_of_their_own_made_once(played):
    teacher, baseline = (played.server.runs[name] for name in ("id-teacher", "id-baseline"))
    assert (teacher.name, teacher.job_type, teacher.group) == ("the teacher", "teacher", "study")
    assert (baseline.name, baseline.job_type, baseline.group) == ("the baseline", "baseline", "study")
    assert curve(teacher, "teacher/loss") == curve(baseline, "baseline/loss") == [(1, 1), (2, 0.5), (3, 1 / 3)]
    assert (teacher.exit_code, baseline.exit_code) == (0, 0)
    assert [run.summary["test/accuracy"] for run in (teacher, baseline)] == [0.9, 0.7]
    assert [run.summary["val/accuracy"] for run in (teacher, baseline)] == [0.95, 0.75]
    assert "figures/confusion_teacher" in teacher.summary and "student/accuracy" not in teacher.summary
    common = {"group": "study", "data": "scenes", "choices.data": "scenes"}
    vea = {"attention": "vea", "choices.attention": "vea"}
    assert teacher.config == common | vea | {"job_type": "teacher", "seed": 7, "teacher.seed": 7}
    assert baseline.config == common | {"job_type": "baseline", "seed": 3, "width": 2, "student.width": 2}
    for cell in ("first", "second"):
        stages = {name.split("/")[0] for row in played.server.runs[f"id-{cell}"].history for name in row if "/" in name}
        assert stages == {"student", "figures"} or stages == {"student"}
        assert [row["stage"] for row in metrics(played.folder / "outputs", cell)] == [
            *["teacher"] * 3,
            *["baseline"] * 3,
            *["student"] * 3,
        ]


def test_a_run_that_is_started_again_resumes(played):
    run = played.server.runs["id-restarted"]
    assert curve(run) == [(epoch, 1 / epoch) for epoch in range(1, 6)] and run.started > 1


def test_an_outage_that_ends_costs_nothing(played):
    run = played.server.runs["id-outage"]
    assert curve(run) == [(epoch, 1 / epoch) for epoch in range(1, 9)] and run.exit_code == 0
    assert played.server.artifact("student-id-outage").state == "COMMITTED"
    assert run.summary["test/accuracy"] == 0.8
    assert "send:" not in played.hint("second"), "all has been sent"


def test_a_student_that_could_not_be_sent_costs_one_warning(played):
    (line,) = played.warnings("refused")
    assert "saving" in line and "student.safetensors" in line and "CommitArtifact" in line
    assert played.server.artifact("student-id-refused").state == "PENDING"
    assert played.server.runs["id-refused"].exit_code == 0


def test_the_report_of_a_sweep_is_a_run_too(played):
    run = played.server.runs["id-report"]
    assert (run.name, run.group, run.job_type) == ("report of study", "study", "report")
    assert run.config == {"sweep": "study", "group": "study", "job_type": "report"}
    assert run.summary["sweep/accuracy"]["path"] in run.files and run.summary["cells"]["nrows"] == 1
    assert not any(b"somebody" in content for content in run.files.values())


def test_what_was_tracked_offline_is_sent_by_the_command_of_the_hint(played):
    assert "id-later" not in played.server.runs
    assert "--include-online" not in played.send("later")
    cell, teacher = played.server.runs["id-later"], played.server.runs["id-other-teacher"]
    assert curve(cell) == curve(teacher, "teacher/loss") == [(1, 1), (2, 0.5), (3, 1 / 3)]
    assert cell.summary["test/accuracy"] == 0.8 and cell.config["temperature"] == 4 and cell.exit_code == 0
    assert played.server.artifact("student-id-later").files == {"student.safetensors": b"weights" * 1000}
    assert cell.summary["per_class"]["path"] in cell.files


def test_an_outage_that_stays_ends_in_time_and_all_of_it_is_sent_later(played):
    took = played.number("away took")
    assert took < 20, "1 s for the question, 1 s for the end of each of the two runs, and a busy machine"
    assert played.number("after took") < 8, "the next run waits again"
    lost, late, again = played.warnings("away")
    assert "no longer answers" in lost and "within 1 s" in late and "ask again after" in again
    command = played.send("away")
    assert "--include-online" in command and command.count("id-away") == 2
    cell, teacher = played.server.runs["id-away"], played.server.runs["id-third-teacher"]
    assert curve(cell) == [(1, 1), (2, 0.5), (3, 1 / 3), (4, 0.25)] and cell.exit_code == 0
    assert curve(teacher, "teacher/loss") == [(1, 1), (2, 0.5)] and teacher.summary["test/accuracy"] == 0.9
    assert cell.summary["test/accuracy"] == 0.8 and cell.summary["figures/confusion_student"]["path"] in cell.files
    artifact = played.server.artifact("student-id-away")
    assert artifact.state == "COMMITTED" and artifact.files == {"student.safetensors": b"weights" * 1000}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refuses", "stalls", "down"])
def test_without_a_server_the_first_run_waits_less_than_15_seconds_and_the_next_not_at_all(tmp_path, how):
    scenario = """
import time
for name in ("first", "second"):
    began = time.monotonic()
    with tracker(name, mode="online") as t:
        rows(t, "student", 2)
    print(f"{time.monotonic() - began:.1f}")
"""
    with Server() as server:
        server.stalled, server.down = how == "stalls", how == "down"
        environment = server.environment() | ({"WANDB_BASE_URL": "http://127.0.0.1:9"} if how == "refuses" else {})
        began = time.monotonic()
        done, _ = play(tmp_path, scenario, **environment)
        assert time.monotonic() - began < 17
    first, second = map(float, done.stdout.split())
    assert first < 15 and second < 2
    assert len(done.stderr.splitlines()) == 2 and done.stderr.count("tracked offline") == 2
