"""Start sweeps as a user does, and inspect them while they run."""

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
    "train.teacher.epochs=4",  # long enough to kill a process in
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
    """Skip the test if the Hydra plugin is not installed."""
    if not has(plugin):
        pytest.skip(f"the Hydra plugin of {plugin} is not installed: pip install -e '.[{PLUGINS[plugin]}]'")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment that keeps a command out of the user's home, without variables of Slurm, Ray and kd."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY_", "KD_"))}
    fonts = {"MPLCONFIGDIR": str(home / "matplotlib"), "XDG_CACHE_HOME": str(home / "cache")}
    return kept | fonts | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | more


@contextlib.contextmanager
def started(*overrides: str, cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Start a multirun; its output goes to ``cwd/output.txt``."""
    with open(cwd / "output.txt", "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kd.run", "-m", *overrides],
            cwd=cwd,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def sweep(*overrides: str, cwd: Path, env: dict[str, str], code: int = 0, seconds: float = 240) -> str:
    """Run a multirun to its end and return its output."""
    with started(*overrides, cwd=cwd, env=env) as process:
        process.wait(seconds)
    output = (cwd / "output.txt").read_text(encoding="utf-8", errors="replace")
    assert process.returncode == code, output
    return output


def wait_for(what: str, look: Callable[[], Any], process: subprocess.Popen | None = None, seconds: float = 180) -> Any:
    """Call ``look`` many times a second until it returns something, and return that."""
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
    """Whether one cell trained the teacher, one trained the baseline, and all others reused them.

    The cell that trained one may have failed later, at its student, and have no result.
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
    """Return the process that trains the teacher now: it holds the lock."""
    if not any((outputs / "teachers").glob(".*")):  # the folder of the teacher before it is published
        return None
    for lock in (outputs / ".locks").glob("teachers-*.lock"):
        try:
            with file_lock(lock).acquire(timeout=0):
                continue
        except Timeout:
            return int(lock.read_text().split()[0])
    return None


def kill_the_trainer(outputs: Path, process: subprocess.Popen) -> int:
    """Kill the process that trains the teacher, during the training; return its id."""
    pid = wait_for("a process that trains the teacher", lambda: teachers_trainer(outputs), process)
    time.sleep(0.3)
    assert teachers_trainer(outputs) == pid, "the teacher was trained too fast for this test"
    os.kill(pid, signal.SIGKILL)
    return pid


def marked(mark: str) -> list[int]:
    """Return the processes with ``KD_CLUSTER=mark`` in their environment, except this one."""
    listing = subprocess.run(["ps", "axeww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=True)
    found = [line.split() for line in listing.stdout.splitlines() if f"KD_CLUSTER={mark}" in line.split()]
    return [int(pid) for pid, stat, *_ in found if int(pid) != os.getpid() and not stat.startswith("Z")]


def end(mark: str) -> None:
    """End all processes with ``mark``, including detached daemons, and no others."""
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + seconds
        while marked(mark) and time.monotonic() < until:
            time.sleep(0.05)
    assert not marked(mark), "daemons of this test are still running"
