"""Failures of W&B's server, its service process or its disk: the run continues, and what was logged can be sent.

Each run is a child of one process, see scenario.py, with the real wandb and a stand-in server.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tracking.scenario import LIVES, metrics, play, send
from tests.tracking.wandb_file import read_run
from tests.tracking.wandb_server import Server

SCENARIO = """
import resource
import kd.tracking.claim, kd.tracking.wandb_run
kd.tracking.wandb_run.FINISH_TIMEOUT, kd.tracking.wandb_run.FLUSH_TIMEOUT = 1, 0.5

def switch(query):
    ask("/switch?" + query)

def run(name, epochs=4, stages=("teacher", "student"), halfway=lambda: None, limit=None, core=None, **more):
    def act():
        if core:
            import wandb.sdk.lib.service.service_process as service
            service.get_core_path = lambda: core
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        began = time.monotonic()
        with tracker(name, **{"mode": "online", "timeout": 5, **more}) as t:
            t.sibling("teacher", run_id="id-teacher-of-" + name, name="the teacher")
            started = time.monotonic()
            for stage in stages:
                for epoch in range(1, epochs + 1):
                    t.log({"stage": stage, "epoch": epoch, "loss": 1 / epoch})
                    if (stage, epoch) == ("student", epochs // 2):
                        halfway()
            ended = time.monotonic()
            figures = {"confusion_student": root / "confusion.png"}
            t.finish(RESULT, figures, {"per_class": [{"class": "sea"}]}, {"student": root / "student.safetensors"})
        print(f"hint of {name}: {t.hint()}")
        print(f"{name} started in {started - began:.1f} s and ended in {time.monotonic() - ended:.1f} s")
    print(f"{name} begins", file=sys.stderr, flush=True)
    assert life(act) == 0
    print(f"{name} ends", file=sys.stderr, flush=True)

def kill_service():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        command, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        if "wandb" in command and int(rest.split()[1]) == os.getpid():
            os.kill(int(stat.parent.name), signal.SIGKILL)
            print("killed")

"""
SEVEN = """
switch("strange=1")
run("unknown")  # its key, from the start
switch("strange=0")
run("forgotten", halfway=lambda: (arrived("id-forgotten", 2), switch("strange=1")))  # its key, in the middle
switch("strange=0&delay=5")
run("slow", timeout=1)
switch("delay=0")
note = root / "wandb" / "no-answer"
assert note.exists()
os.utime(note, (time.time() + 1000, time.time() + 1000))  # the clock was set back
run("early")
note.unlink(missing_ok=True)
run("bereft", halfway=kill_service)
long = {"epochs": 280, "stages": ["student"], "mode": "offline"}  # 38 kB for wandb, 17 kB in metrics.jsonl
run("full", limit=30_000, **long)
shutil.rmtree(root / "runs" / "full")
run("full", **long)

class Lockless:
    def acquire(self, timeout):
        raise OSError(37, "No locks available")
kd.tracking.claim.file_lock = lambda path: Lockless()
run("lockless", mode="offline")
run("lame", core="/bin/false", mode="offline")  # its service process does not start
"""


LATE = """
run("late", halfway=lambda: switch("delay=2"))
switch("delay=0")
"""
NAMES = ["unknown", "forgotten", "slow", "early", "bereft", "full", "lockless", "lame"]
SENT_LATER = ["unknown", "forgotten", "slow"]


class Played:
    """The runs at their end; then everything unsent is sent with the commands of the hints."""

    def __init__(self, folder: Path, server: Server, scenario: str, names: list[str], sent_later: list[str]):
        self.server, self.outputs = server, folder / "outputs"
        done, home = play(folder, "import shutil\n" + LIVES + SCENARIO + scenario, **server.environment())
        assert done.returncode == 0, done.stderr
        self.out, self.err = done.stdout, done.stderr
        self.at_once = {name for name in names if self.complete(name)}
        send(self.outputs, home, self.out, sent_later, server)

    def warnings(self, name: str) -> list[list[str]]:
        found = re.findall(rf"^{name} begins\n(.*?){name} ends$", self.err, re.MULTILINE | re.DOTALL)
        return [part.splitlines() for part in found]

    def seconds(self, name: str) -> tuple[float, float]:
        """How long the start and the end of a run took."""
        found = re.search(rf"^{name} started in ([\d.]+) s and ended in ([\d.]+) s$", self.out, re.MULTILINE)
        return float(found[1]), float(found[2])

    def complete(self, name: str) -> bool:
        """Whether the server has all of a run, of its teacher and of its student."""
        for run_id, stage in ((f"id-{name}", "student"), (f"id-teacher-of-{name}", "teacher")):
            run = self.server.runs.get(run_id)
            if not run or run.exit_code != 0 or "test/accuracy" not in run.summary:
                return False
            rows = {row["_step"]: row for row in run.history if f"{stage}/loss" in row}
            if [row["epoch"] for row in rows.values()] != [1, 2, 3, 4]:
                return False
        sent = {(artifact.run, artifact.type, artifact.state) for artifact in self.server.artifacts.values()}
        # of an upload that took too long a warning is all that remains: no sync repeats it
        return name == "late" or (f"id-{name}", "model", "COMMITTED") in sent


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    with Server() as server:
        yield Played(tmp_path_factory.mktemp("outage"), server, SEVEN, NAMES, SENT_LATER)


@pytest.mark.parametrize("name", NAMES)
def test_the_run_continues_with_complete_metrics(played, name):
    stages, epochs = (["student"], 280) if name == "full" else (["teacher", "student"], 4)
    rows = [(row["stage"], row["epoch"]) for row in metrics(played.outputs, name)]
    assert rows == [(stage, epoch) for stage in stages for epoch in range(1, epochs + 1)]


def test_what_an_outage_held_back_arrives_with_the_command_of_the_hint(played):
    assert played.at_once == {"early", "bereft"}, "of the others something was still here"
    assert [name for name in SENT_LATER if not played.complete(name)] == []


def test_a_refused_key_costs_a_warning_and_no_waiting(played):
    (line,) = played.warnings("unknown")[0]
    assert "401" in line and "tracked offline" in line
    (line,) = played.warnings("forgotten")[0]
    assert "no longer answers" in line
    assert max(*played.seconds("unknown"), *played.seconds("forgotten")) < 6


def test_a_server_that_answers_after_5_seconds_delays_the_start_by_the_timeout(played):
    (line,) = played.warnings("slow")[0]
    assert "tracked offline" in line and played.seconds("slow")[0] < 1 + 6, "tracking.timeout, and a busy machine"


@pytest.mark.slow
def test_a_server_that_becomes_slow_delays_the_end_by_a_bounded_time(tmp_path):
    with Server() as server:
        played = Played(tmp_path, server, LATE, ["late"], ["late"])
    student, rest = played.warnings("late")[0]
    assert "student.safetensors" in student and "within 1 s" in rest
    assert played.seconds("late")[1] < 25, "three times FINISH_TIMEOUT, here 1 s, and questions that take 2 s each"
    assert played.at_once == set() and played.complete("late")


def test_a_note_from_the_future_keeps_no_run_offline(played):
    assert played.warnings("early") == [[]]


def test_a_service_process_that_is_killed_online_is_replaced_and_receives_everything(played):
    assert "killed" in played.out, "the test no longer finds wandb's service process"
    (line,) = played.warnings("bereft")[0]
    assert "W&B failed while" in line
    assert [row["_step"] for row in played.server.runs["id-bereft"].history] == [0, 1, 2, 3, 4]


def test_a_full_disk_is_noticed_and_the_run_is_logged_again_when_there_is_space(played):
    ((line,), again) = played.warnings("full")
    assert "could not write all" in line and again == []
    (segment,) = (played.outputs / "wandb").glob("offline-run-*-id-full")
    run = read_run(segment)
    assert len(run.history) == 280 + 1 and run.exit_code == 0


def test_a_service_process_that_does_not_start_delays_no_run(played):
    (line,) = played.warnings("lame")[0]
    assert "W&B failed while starting" in line and "wandb-core" in line
    assert sum(played.seconds("lame")) < 15


def test_without_locks_a_teacher_is_logged_with_a_warning(played):
    (line,) = played.warnings("lockless")[0]
    assert "cannot be locked" in line
    (segment,) = (played.outputs / "wandb").glob("offline-run-*-id-teacher-of-lockless")
    assert len(read_run(segment).history) == 4 + 1
