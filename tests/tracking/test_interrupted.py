"""Ctrl-C ends a tracked run at once, whatever W&B's server does meanwhile, and nothing that was logged is lost."""

from __future__ import annotations

import re

import pytest

from tests.tracking.scenario import LIVES, metrics, play
from tests.tracking.wandb_file import read_run
from tests.tracking.wandb_server import Server

SCENARIO = """
def interrupted(name, at="rows", server="", **more):
    '''Interrupt a run with 50 rows in ``at``, and print how long it took to end.'''
    reader, writer = os.pipe()
    def ready():
        os.write(writer, b".")
        if at != "start":
            signal.pause()
    def act():
        try:
            if at == "start":
                ready()
            with tracker(name, **more) as t:
                t.sibling("teacher", run_id="id-teacher-of-" + name, name="the teacher")
                for stage in ("teacher", "student"):
                    for epoch in range(1, 51):
                        t.log({"stage": stage, "epoch": epoch, "loss": 1 / epoch})
                if at == "rows":
                    ready()
                os.write(writer, b".")
                t.finish(RESULT, {}, {}, {"student": root / "student.safetensors"})
        except KeyboardInterrupt:
            print("hint of", name + ":", t.hint() if at != "start" else "")
            sys.stdout.flush()
            os._exit(130)
    if at == "start":
        ask("/switch?" + server)
    child = life(act, wait=False)
    os.read(reader, 1)
    if server and at != "start":
        ask("/switch?" + server)
    if at != "rows":
        time.sleep(0.8)  # until it waits for the server
    began = time.monotonic()
    os.kill(child, signal.SIGINT)
    status = os.waitpid(child, 0)[1]
    print(f"{name} ended with {os.waitstatus_to_exitcode(status)} in {time.monotonic() - began:.2f} s")
    if server:
        ask("/switch?" + server.replace("1", "0"))

online = {"mode": "online", "timeout": 30}
interrupted("offline")
interrupted("answered", **online)
interrupted("silent", server="stalled=1", **online)
interrupted("starting", at="start", server="stalled=1", **online)
interrupted("finishing", at="finish", server="stalled=1", **online)
"""
NAMES = ["offline", "answered", "silent", "starting", "finishing"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("interrupted")
    with Server() as server:
        done, _ = play(tmp_path, LIVES + SCENARIO, **server.environment())
        assert done.returncode == 0 and done.stderr == "", done.stderr
        yield tmp_path / "outputs", done.stdout, server


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_ends_at_once(ended, name):
    _, out, _ = ended
    code, seconds = re.search(rf"^{name} ended with (-?\d+) in ([\d.]+) s$", out, re.MULTILINE).groups()
    assert code == "130"
    assert float(seconds) < 1.2, "0.5 s, and a busy machine"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "starting"])
def test_what_it_had_logged_is_in_its_files_and_the_hint_names_what_no_server_has(ended, name):
    outputs, out, server = ended
    assert [row["epoch"] for row in metrics(outputs, name)] == 2 * [*range(1, 51)]
    hint = re.search(rf"^hint of {name}: .*\n(send: .*)?", out, re.MULTILINE)[1] or ""
    for run_id, stage in ((f"id-{name}", "student"), (f"id-teacher-of-{name}", "teacher")):
        (segment,) = (outputs / "wandb").glob(f"*run-*-{run_id}")
        run = read_run(segment)
        assert [row["epoch"] for row in run.history if f"{stage}/loss" in row] == [*range(1, 51)]
        assert run.exit_code == 1, "a run that was interrupted did not end well"
        assert (segment.name in hint) == (name != "answered")
    if name == "answered":
        assert len(server.runs["id-answered"].history) == 50 and server.runs["id-answered"].exit_code == 1
