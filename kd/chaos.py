"""Kill runs at random and check that nothing is lost: ``python -m kd.chaos --runs 100 --seed 0``.

A few small runs, each of another method, run once undisturbed. Then each runs again in its own folder, and its process
is ended again and again: with ``kill -9`` after a random time, with ``kill -9`` when a randomly chosen kind of file
first appears, or by a random limit on the size of files (a full disk). Each time the same command resumes the run. In
the end everything must be equal bit for bit, except what a clock measures: weights, cached logits, predictions,
``metrics.jsonl``, ``result.json`` and what W&B logged.

Exit code 0: everything is equal. 1: something differs; the folders are kept for inspection.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd.runtime.console import display_folder
from kd.runtime.streams import open_streams

SMALL = [  # a run of a second; allow_weak accepts any teacher
    "data.train_images=150",
    "data.test_images=60",
    "data.image_size=16",
    "data.val_fraction=0.2",
    "teacher=tiny_cnn",
    "teacher.allow_weak=true",
    "student.width=0.25",
    "train.batch_size=16",
    "train.checkpoint_minutes=0.0005",
    "train.teacher.epochs=3",
    "train.student.epochs=4",
    "train.threads=1",
    "latency.seconds=0.02",
    "latency.batch=8",
]
STORIES = {  # runs with a logit cache, an EMA, memories, a second student, a chain of students, adapters
    "logit_cache": ["kd=hinton"],
    "average and memory": ["kd=crd", "train.student.ema=0.9", "tracking=disabled", "report=false"],
    "second student": ["kd=dml", "tracking=disabled", "report=false"],
    "generations": ["kd=born_again", "kd.generations=2", "tracking=disabled", "report=false"],
    "adapters, SGD, micro-batches": [
        "kd=ofd",
        "train.student.optimizer=sgd",
        "train.grad_accum_steps=2",
        "tracking=disabled",
        "report=false",
    ],
}
AIMS = (  # kinds of files; a process may be killed when one first appears
    "unfinished/*/.*",
    "unfinished/*/*.pt",
    "unfinished/logits-*/epochs.sha256",
    "data/.*",
    "teachers/.*",
    "students/.*",
    "logits/.*",
    "costs/.*",
    "runs/*/.unfinished",
    "runs/*/metrics.jsonl",
    "runs/*/predictions.npz",
    "runs/*/student.safetensors",
    "runs/*/models.json",
    "runs/*/result.json",
    "runs/*/figures/*.png",
    "runs/*/report.md",
)
CLOCK = {"seconds", "images_per_s", "latency_ms", "throughput", "_runtime", "_timestamp"}
CLOCK |= {"speed_up", "speed_up_one_thread"}


FULL = "disk full"


class Killed(NamedTuple):
    """One killed process, or one that ended on a full disk."""

    moment: str  # the kind of file that appeared, or when
    stage: str  # the step that the run was in, by the files that it had published


def main(arguments: Sequence[str] | None = None) -> int:
    open_streams()
    parser = argparse.ArgumentParser(prog="python -m kd.chaos", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="number of processes to kill (default: 100)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the moments (default: random, and printed)")
    parser.add_argument(
        "--folder", type=display_folder, default=None, help="folder of the runs (default: a temporary folder)"
    )
    parser.add_argument("--stories", type=int, default=len(STORIES), help="number of kinds of runs (default: all)")
    parser.add_argument("overrides", nargs="*", help="further settings of every run, e.g. kd.temperature=4")
    given = parser.parse_args(arguments)
    if given.runs < 1 or not 1 <= given.stories <= len(STORIES):
        parser.error(f"--runs must be 1 or more, --stories 1 to {len(STORIES)}")
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kd-chaos-"))
    print(f"{given.runs} kills, --seed {seed}, in {folder}", flush=True)
    lost, kills = chaos(folder, given.runs, seed, given.overrides, given.stories)
    for name, count in (
        ("stage", Counter(kill.stage for kill in kills)),
        ("moment", Counter(kill.moment for kill in kills)),
    ):
        print(f"killed by {name}: " + ", ".join(f"{what} {number}" for what, number in sorted(count.items())))
    for line in lost:
        print(f"LOST  {line}")
    full = sum(kill.moment == FULL for kill in kills)
    print(f"{len(kills) - full} killed, {full} disks full, {len(lost)} differences (--seed {seed})", flush=True)
    return 1 if lost else 0


def chaos(
    folder: Path, runs: int, seed: int, overrides: Sequence[str] = (), stories: int = len(STORIES)
) -> tuple[list[str], list[Killed]]:
    """Kill ``runs`` processes and fill some disks besides.

    Returns:
        What differs from the undisturbed runs, and every process that was ended.
    """
    import_everything()
    draw, lost, kills = random.Random(seed), [], []
    shares = [runs // stories + (number < runs % stories) for number in range(stories)]
    for (name, own), share in zip(STORIES.items(), shares, strict=False):
        if not share:
            continue
        settings = [*SMALL, *own, *overrides]
        peace = folder / f"{name.partition(' ')[0].strip(',')}-peace"
        began = time.monotonic()
        code_of(start(settings, peace), peace)
        length = time.monotonic() - began
        done, round_ = 0, 0
        while done < share:
            war = folder / f"{name.partition(' ')[0].strip(',')}-killed-{round_}"
            # few kills per folder, so that they reach all parts of a run
            planned = min(share - done, draw.randint(2, 8))
            new = _kill_often(settings, war, planned, length, draw)
            done, round_ = done + sum(kill.moment != FULL for kill in new), round_ + 1
            kills += new
            lost += [f"{name}, {war.name}: {line}" for line in differences(peace, war)]
            print(f"{name}: {done} of {share} killed, {len(lost)} differences", flush=True)
    return lost, kills


def _kill_often(settings: list[str], outputs: Path, times: int, length: float, draw: random.Random) -> list[Killed]:
    """End up to ``times`` processes of one run, then let one process finish it.

    Raises:
        SystemExit: a process failed that was not killed.
    """
    kills: list[Killed] = []
    for _ in range(times):
        way = draw.random()
        if way < 0.2:
            limit = int(10 ** draw.uniform(2.5, 6))
            if code_of(start(settings, outputs, limit), outputs, codes=(0, 2)):
                kills.append(Killed(FULL, _stage(outputs)))
            continue
        aim = draw.choice(AIMS) if way < 0.6 else None
        before = set(outputs.glob(aim)) if aim else set()
        pid = start(settings, outputs)
        end = time.monotonic() + (20 * length if aim else draw.uniform(0, length))
        while time.monotonic() < end and not _ended(pid):
            if aim and set(outputs.glob(aim)) - before:
                break
            time.sleep(0.0005)
        if not _ended(pid):
            os.kill(pid, signal.SIGKILL)
        if code_of(pid, outputs, codes=(0, -signal.SIGKILL)):  # else it finished before the kill
            kills.append(Killed(aim or "after a while", _stage(outputs)))
    code_of(start(settings, outputs), outputs)
    return kills


def start(settings: list[str], outputs: Path, limit: int | None = None) -> int:
    """Start the command in a child process that has everything imported; return its id.

    Args:
        limit: largest size of a file in bytes.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with (outputs / "log.txt").open("ab") as log:
            # a process of its own writes the log, so that the limit does not apply to it
            writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log).stdin if limit else log
            os.dup2(writer.fileno(), 1)
            os.dup2(writer.fileno(), 2)
        if limit:
            import resource  # not on Windows, where this file is imported, too

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        sys.argv = ["kd.run", *settings, f"outputs={outputs}"]
        runpy.run_module("kd.run", run_name="__main__")  # what python -m does
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_statuses: dict[int, int] = {}  # exit statuses of children that have ended


def _ended(pid: int) -> bool:
    if pid not in _statuses:
        done, status = os.waitpid(pid, os.WNOHANG)
        _statuses.update({pid: status} if done else {})
    return pid in _statuses


def code_of(pid: int, outputs: Path, codes: Sequence[int] = (0,)) -> int:
    status = _statuses.pop(pid) if _ended(pid) else os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    if code not in codes:
        raise SystemExit(f"a run that was not killed ended with exit code {code}: {outputs / 'log.txt'}")
    return code


def _stage(outputs: Path) -> str:
    """Return the step in which a run was killed."""
    if not list(outputs.glob("data/[!.]*")):
        return "data"
    if not list(outputs.glob("teachers/[!.]*")):
        return "teacher"
    run = next(outputs.glob("runs/*"), Path())
    students = len(list(outputs.glob("students/[!.]*")))
    if not (run / "predictions.npz").exists():
        return (
            "logit_cache" if list(outputs.glob("unfinished/logits-*")) else "baseline" if not students else "students"
        )
    return "evaluation" if not (run / "result.json").exists() else "report"


def differences(peace: Path, war: Path) -> list[str]:
    """Return the differences between two outputs folders of the same command, except what a clock measures."""
    found = []
    ours, theirs = contents(peace), contents(war)
    for name in sorted(set(ours) | set(theirs)):
        if name not in theirs or name not in ours:
            found.append(f"{name} is {'missing' if name in ours else 'left over'}")
        elif ours[name] != theirs[name]:
            found.append(f"{name} differs")
    return found


def contents(outputs: Path) -> dict[str, Any]:
    """Return by name what a run computed, what W&B logged, and any file that the run should have removed."""
    found: dict[str, Any] = {}
    for kind in ("data", "teachers", "students", "logits"):
        for path in sorted(outputs.glob(f"{kind}/*/*")):
            if path.suffix in (".safetensors", ".npy", ".jsonl"):
                found[str(path.relative_to(outputs))] = _read(path)
    for path in sorted(outputs.glob("runs/*/*")):
        if path.suffix in (".safetensors", ".jsonl", ".npz", ".yaml") or path.name == "result.json":
            # config.yaml names the outputs folder
            found[str(path.relative_to(outputs))] = _read(path, str(outputs))
        elif path.is_file():
            found[str(path.relative_to(outputs))] = "there"
    for path in sorted(outputs.glob("runs/*/figures/*")):
        found[str(path.relative_to(outputs))] = "there"
    for path in [*outputs.glob("unfinished/*/*"), *outputs.glob("*/.*.*"), *outputs.glob("runs/*/.*")]:
        if ".locks" not in str(path):
            found[f"half-made {path.relative_to(outputs)}"] = "there"
    for path in sorted(outputs.glob("wandb/offline-run-*")):
        run_id, history = _tracked(path)
        found[f"W&B {run_id}"] = [*found.get(f"W&B {run_id}", []), *history]  # joined as wandb sync does
    return found


def _read(path: Path, place: str = "") -> Any:
    if path.suffix == ".jsonl":
        return [_without_clock(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".json":
        return _without_clock(json.loads(path.read_text(encoding="utf-8").replace(place, "outputs")))
    if path.suffix == ".yaml":
        return path.read_text(encoding="utf-8").replace(place, "outputs")
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path) as arrays:
            return {name: hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in arrays.files}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tracked(segment: Path) -> tuple[str, Any]:
    """Return the run id and the history of one W&B run segment."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(segment)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    history, run_id = [], segment.name.rpartition("-")[2]
    for line in done.stdout.splitlines():
        record = json.loads(line)
        if record.get("history"):
            item = record["history"]["item"]
            shown = {name.removesuffix("._type") for name in item if name.endswith("._type")}
            # figures and tables hold latencies, and artifacts have random names: only their existence is compared
            numbers = {name: value for name, value in item.items() if name.partition(".")[0] not in shown}
            history.append(_without_clock(numbers) | dict.fromkeys(shown, "there"))
    return run_id, history


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if not CLOCK & set(name.replace("/", ".").split("."))}
        return {name: _without_clock(inner) for name, inner in kept.items()}
    return [_without_clock(inner) for inner in value] if isinstance(value, list) else value


def import_everything() -> None:
    """Import everything, so that a child starts at once. It computes nothing: threads would not survive the fork."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import importlib

    for name in (
        "hydra",
        "kd.sweep.callback",
        "kd.pipeline.execute",
        "kd.report.figures.style",
        "kd.report",
        "kd.data.datasets.scenes.dataset",
        "kd.models.tiny_cnn",
        "timm.optim",
        "wandb.apis.public",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
