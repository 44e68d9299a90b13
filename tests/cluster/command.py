"""Sweeps as a user starts them, and what these tests look at while they run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from kd.records.ledger import Cell, read_sweep
from kd.store.locks import file_lock
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
SMALL = [
    *TINY,
    "train.teacher.epochs=4",  # long enough for somebody to die in
    "train.student.epochs=1",
    "train.threads=1",
    "latency.seconds=0.02",
    "latency.batch=8",
    "tracking=disabled",
    "report=false",
]
TEMPERATURES = "2,4,8,16"
PLUGINS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm", "optuna": "optuna"}


def has(plugin: str) -> bool:
    names = (f"hydra_plugins.hydra_{plugin}_launcher", f"hydra_plugins.hydra_{plugin}_sweeper")
    with contextlib.suppress(ModuleNotFoundError):
        return any(importlib.util.find_spec(name) for name in names)
    return False


def need(plugin: str) -> None:
    """Skip the test, by name, where the Hydra plugin is not installed."""
    if not has(plugin):
        pytest.skip(f"the Hydra plugin of {plugin} is not installed: pip install -e '.[{PLUGINS[plugin]}]'")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a command that leaves nothing in anybody's home; Slurm's and Ray's own variables are the tests' to set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY_", "KD_"))}
    fonts = {"MPLCONFIGDIR": str(home / "matplotlib"), "XDG_CACHE_HOME": str(home / "cache")}
    return kept | fonts | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | more


@contextlib.contextmanager
def started(*overrides: str, cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A multirun that is running; its words go to ``cwd/said.txt``."""
    with open(cwd / "said.txt", "ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "kd.run", "-m", *overrides], cwd=cwd, env=env, stdout=said, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def sweep(*overrides: str, cwd: Path, env: dict[str, str], code: int = 0, seconds: float = 240) -> str:
    """Run a multirun to its end and return what it said."""
    with started(*overrides, cwd=cwd, env=env) as process:
        process.wait(seconds)
    said = (cwd / "said.txt").read_text(encoding="utf-8", errors="replace")
    assert process.returncode == code, said
    return said


def wait_for(what: str, look: Callable[[], Any], process: subprocess.Popen | None = None, seconds: float = 180) -> Any:
    """Return what ``look`` finds, asked many times a second."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        assert process is None or process.poll() is None, f"the sweep ended before there was {what}"
        time.sleep(0.05)
    raise AssertionError(f"there was no {what} in {seconds:.0f} s")


def cells(outputs: Path) -> dict[str, Cell]:
    """The cells of the one sweep, by temperature."""
    (folder,) = (outputs / "sweeps").iterdir()
    return {cell.values["kd.temperature"]: cell for cell in read_sweep(folder).cells}


def students(outputs: Path) -> dict[str, str]:
    """The weights of each finished cell's student, as a hash, by temperature."""
    finished = {temperature: cell.run for temperature, cell in cells(outputs).items() if cell.run}
    return {
        temperature: hashlib.sha256((run / "student.safetensors").read_bytes()).hexdigest()
        for temperature, run in finished.items()
    }


def each_made_once(outputs: Path) -> bool:
    """Whether one cell trained the teacher and one the baseline, and all others found them.

    That one may have failed later, at its student, and left no result.
    """
    (teacher,) = (outputs / "teachers").iterdir()
    (baseline,) = (
        path for path in (outputs / "students").iterdir() if "soft" not in _read(path / "settings.json")["objective"]
    )
    maker = {"teacher": _read(teacher / "about.json")["run"], "baseline": _read(baseline / "about.json")["run"]}
    results = [cell.result for cell in cells(outputs).values() if cell.result]
    return all(
        result[stage]["training"]["found"] == (result["key"] != maker[stage]) for result in results for stage in maker
    )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def teachers_trainer(outputs: Path) -> int | None:
    """The process that trains the teacher now: it holds the lock."""
    if not any((outputs / "teachers").glob(".*")):  # the folder that it fills, not published yet
        return None
    for lock in (outputs / ".locks").glob("teachers-*.lock"):
        try:
            with file_lock(lock).acquire(timeout=0):
                continue
        except Timeout:
            return int(lock.read_text().split()[0])
    return None


def kill_the_trainer(outputs: Path, process: subprocess.Popen) -> int:
    """SIGKILL to whoever trains the teacher, in the middle of it."""
    pid = wait_for("anybody who trains the teacher", lambda: teachers_trainer(outputs), process)
    time.sleep(0.3)
    assert teachers_trainer(outputs) == pid, "it was trained too fast for this test"
    os.kill(pid, signal.SIGKILL)
    return pid


def marked(mark: str) -> list[int]:
    """The processes that were started with ``KD_CLUSTER=mark`` in their environment, but for this one."""
    told = subprocess.run(["ps", "axeww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=True)
    found = [line.split() for line in told.stdout.splitlines() if f"KD_CLUSTER={mark}" in line.split()]
    return [int(pid) for pid, stat, *_ in found if int(pid) != os.getpid() and not stat.startswith("Z")]


def end(mark: str) -> None:
    """End all that was started under ``mark``, daemons that left their parents too, and nothing else."""
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + seconds
        while marked(mark) and time.monotonic() < until:
            time.sleep(0.05)
    assert not marked(mark), "daemons of this test are still running"
