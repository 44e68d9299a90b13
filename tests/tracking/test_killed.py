"""A run that is killed and started again is, for W&B, a run that was never killed.

One process imports wandb and forks a child for each life of a run, which saves a second a life. A child ends itself by
SIGKILL at a chosen moment; the next child starts the same run again, as the same command would.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tracking.scenario import LIVES, metrics, play, send
from tests.tracking.wandb_file import read_run
from tests.tracking.wandb_server import Server

KINDS = ("id-{}", "id-teacher-of-{}", "id-baseline-of-{}")
PASSING = ("_runtime", "_timestamp", "artifact_path", "_latest_artifact_path")


def lasting_rows(run) -> list[dict]:
    """The history of a run without what depends on the clock or on chance."""

    def lasting(value):
        if not isinstance(value, dict):
            return value
        return {name: lasting(inner) for name, inner in value.items() if name not in PASSING}

    return [lasting(row) for row in run.history]


def own(row: dict) -> dict:
    """Without wandb's entries."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


SCENARIO = """
def off():
    for moment in [("teacher", 2), ("student", 3), "between figures and tables", "ended", None]:
        cell(moment, "off")

online = {"mode": "online", "timeout": 10}
def on():
    cell(("student", 3), "on", before=lambda: arrived("id-on", 3), **online)
    cell("before the student", "on", before=lambda: arrived("id-on", 5), **online)  # 4 rows, and one of figures
    cell(None, "on", **online)

def away():
    cell(("student", 2), "away", before=lambda: arrived("id-away", 2), **online)
    cell(("student", 4), "away")  # offline, and killed once more
    cell(None, "away")

def sent():
    cell(("student", 3), "sent", before=lambda: time.sleep(1))  # as wandb writes it to its file
    segments = map(str, (root / "wandb").glob("offline-run-*-id-sent"))
    subprocess.run([sys.executable, "-m", "wandb", "sync", *segments], check=True, capture_output=True)
    cell(None, "sent")

calm = [lambda: cell(None, "calm-off"), lambda: cell(None, "calm-on", **online)]
at_once = [life(act, wait=False) for act in (off, on, away, sent, *calm)]
assert [os.waitpid(child, 0)[1] for child in at_once] == [0] * 6
print("rows", json.dumps(ask("/rows")))
"""


class Played:
    """What the lives left; of the two runs that were partly sent, the rest is sent at the end."""

    def __init__(self, folder: Path, server: Server):
        self.server, self.outputs = server, folder / "outputs"
        done, home = play(folder, LIVES + SCENARIO, **server.environment())
        assert done.returncode == 0 and done.stderr == "", done.stderr
        self.out = done.stdout
        self.before = json.loads(re.search("^rows (.*)$", self.out, re.MULTILINE)[1])
        self.segments = sorted((self.outputs / "wandb").glob("*run-*"))
        send(self.outputs, home, self.out, ["away", "sent"], server)

    def of(self, run_id: str) -> list[Path]:
        return [segment for segment in self.segments if re.search(rf"-{run_id}(-\d+)?$", segment.name)]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    with Server() as server:
        yield Played(tmp_path_factory.mktemp("killed"), server)


@pytest.mark.parametrize("kind", KINDS)
def test_offline_a_run_killed_at_any_moment_ends_with_the_history_of_one_that_was_not(played, kind):
    (segment,), (calm_segment,) = (played.of(kind.format(name)) for name in ("off", "calm-off"))
    killed, calm = read_run(segment), read_run(calm_segment)
    assert lasting_rows(killed) == lasting_rows(calm) and len(lasting_rows(calm)) > 2
    assert (killed.exit_code, killed.config) == (0, calm.config)
    assert own(killed.summary).keys() == own(calm.summary).keys()
    assert set(killed.artifacts) == {name.replace("calm-off", "off") for name in calm.artifacts}


@pytest.mark.parametrize("kind", KINDS)
def test_online_a_run_that_was_killed_and_started_again_sends_each_row_once(played, kind):
    killed, calm = (played.server.runs[kind.format(name)] for name in ("on", "calm-on"))
    assert [row["_step"] for row in killed.history] == list(range(len(calm.history)))
    assert lasting_rows(killed) == lasting_rows(calm) and len(calm.history) > 2
    assert killed.exit_code == 0 and killed.started > calm.started
    assert own(killed.summary).keys() == own(calm.summary).keys() and killed.config == calm.config
    assert len(played.of(killed.id)) == 1, "what a killed process left is redundant"


def test_online_figures_tables_and_the_student_are_there_though_the_first_row_of_them_was_sent_by_a_killed_run(played):
    run = played.server.runs["id-on"]
    for shown in ("figures/confusion_student", "per_class"):
        assert run.summary[shown]["path"] in run.files
    assert played.server.artifact("student-id-on").state == "COMMITTED"


@pytest.mark.parametrize("name", ["off", "on", "away", "sent"])
def test_metrics_are_those_of_a_run_that_was_not_killed(played, name):
    killed, calm = (played.outputs / "runs" / name / "metrics.jsonl" for name in (name, "calm-off"))
    assert killed.read_bytes() == calm.read_bytes() and len(metrics(played.outputs, name)) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_killed_online_and_started_again_offline_it_is_complete_when_both_segments_are_sent(played, kind):
    killed, calm = (played.server.runs[kind.format(name)] for name in ("away", "calm-on"))
    assert played.before["id-away"] == 2, "the rest had not been sent"
    # `wandb sync` sends all of a segment, as it was
    rows = {row["_step"]: row for row in lasting_rows(killed)}.values()
    *lines, end = map(own, rows)
    *calm_lines, calm_end = map(own, lasting_rows(calm))
    assert lines == calm_lines and end.keys() == calm_end.keys()
    assert killed.exit_code == 0


def test_a_segment_that_was_sent_before_its_run_ended_is_kept_and_its_rows_are_not_logged_again(played):
    assert played.before["id-sent"] == 3
    early, late = played.of("id-sent")
    assert (early / "run-id-sent.wandb.synced").exists() and len(read_run(late).history) == 1 + 1
    *rows, end = played.server.runs["id-sent"].history
    assert [(row["_step"], row["epoch"]) for row in rows] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert "figures/confusion_student" in end and played.server.runs["id-sent"].exit_code == 0
