"""Scenarios: runs that are tracked with the real wandb, each scenario in a process of its own.

wandb changes its process (environment, threads, a service process), so it never runs in pytest's own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.tracking.wandb_server import Server

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = """
import logging, os, sys
from pathlib import Path
from kd.tracking.tracker import Tracker
logging.basicConfig(format="%(levelname)s %(message)s")
root = Path(sys.argv[1])

def tracker(name, **more):
    more = {"config": {"seed": 0}, "name": name, "mode": "offline"} | more
    return Tracker(root / "runs" / name, root=root, run_id="id-" + name, **more)

def rows(tracker, stage, epochs):
    for epoch in range(1, epochs + 1):
        tracker.log({"stage": stage, "epoch": epoch, "loss": 1 / epoch, "val_accuracy": 0.25})
"""


def play(tmp_path: Path, scenario: str, stdin: int = subprocess.DEVNULL, **environment: str):
    """Run ``scenario`` in a process with a HOME of its own, empty at first; return it and that HOME."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_", "NETRC"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + scenario, str(tmp_path / "outputs")],
        env=clean | {"HOME": str(home), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd=tmp_path,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done, home


def metrics(outputs: Path, name: str) -> list[dict]:
    return metrics_of(outputs / "runs" / name)


def metrics_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# What PRELUDE needs besides for runs that are killed: `life` forks a child for each life of a run.
LIVES = """
import json, signal, subprocess, time, urllib.request
import pandas, wandb.apis.public, wandb.sdk.launch  # what a run imports
from PIL import Image

STAGES = {"teacher": 3, "baseline": 2, "student": 4}
RESULT = {"student": {"accuracy": 0.8}, "teacher": {"accuracy": 0.9}, "baseline": {"accuracy": 0.7}}
root.mkdir(exist_ok=True)
Image.new("RGB", (40, 20), "red").save(root / "confusion.png")
(root / "student.safetensors").write_bytes(b"weights" * 1000)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def ask(query):
    return json.load(urllib.request.urlopen(os.environ["WANDB_BASE_URL"] + query))

def arrived(name, count):  # wandb sends history once a second
    until = time.monotonic() + 20
    while ask("/rows").get(name, 0) < count:
        assert time.monotonic() < until, "the rows did not arrive"
        time.sleep(0.05)

class Bomb(dict):  # what is looked at in the middle of Tracker.finish
    def __init__(self, act):
        self.act = act
    def items(self):
        self.act()
        return ()

def life(act, wait=True):
    child = os.fork()
    if child == 0:
        try:
            act()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1] if wait else child

def cell(moment=None, name="cell", before=lambda: None, **more):
    '''One life of the run: to its end, or killed at ``moment``, after ``before``.'''
    def end():
        before()
        die()
    def act():
        with tracker(name, **more) as t:
            t.sibling("teacher", run_id="id-teacher-of-" + name, name="the teacher")
            t.sibling("baseline", run_id="id-baseline-of-" + name, name="the baseline")
            for stage, epochs in STAGES.items():
                for epoch in range(1, epochs + 1):
                    t.log({"stage": stage, "epoch": epoch, "loss": 1 / epoch, "seconds": epoch / 7})
                    if moment == (stage, epoch):
                        end()
            figures = {"confusion_student": root / "confusion.png", "confusion_teacher": root / "confusion.png"}
            tables = {"per_class": [{"class": "sea", "f1": 0.5}]}
            artifacts = {"student": root / "student.safetensors"}
            if moment == "between figures and tables":
                tables = Bomb(end)
            if moment == "before the student":
                artifacts = Bomb(end)
            t.finish(RESULT, figures, tables, artifacts)
        print("hint of", name + ":", t.hint())
        sys.stdout.flush()
        if moment == "ended":
            end()
    return life(act)
"""


def send(outputs: Path, home: Path, out: str, names: list[str], server: Server) -> None:
    """Run the `wandb sync` commands of several hints as one, in the folder where the runs were started."""
    hints = [re.search(rf"^hint of {name}: .*\nsend: wandb (sync .*)$", out, re.MULTILINE)[1] for name in names]
    command = [sys.executable, "-m", "wandb", *dict.fromkeys(" ".join(hints).split())]
    environment = os.environ | server.environment() | {"HOME": str(home)}
    quiet = {"capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run(command, cwd=outputs.parent, env=environment, **quiet)
    assert done.returncode == 0, done.stderr
