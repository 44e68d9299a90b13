"""A sweep of 12 cells, temperature × α, by a person's loop and by the command of this framework.

Both train the teacher once and 12 students; both start with decoded images or image files on the disk. The person's
loop trains each student with the teacher live, one after another, in this process. The framework's time is that of
``python -m kd.run -m kd.temperature=... kd.alpha=...`` in a process of its own, from its start to its end: imports,
checks, teacher, logit cache, students, test logits, latencies and result files. It trains no baselines and draws no
reports, because the person's loop has neither.

A recipe has more epochs than a benchmark has patience for. So the sweep runs with few, and the figures for the epochs
of the recipe are extrapolated, and marked so: measured time plus the further epochs at the measured seconds an epoch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.bench.naive import Naive, fit_naively
from kd.bench.setting import Setup, share_data
from kd.bench.torch_state import own_torch_state
from kd.config.composed import compose_checked
from kd.config.paths import conf_dir

TEMPERATURES, ALPHAS = (1, 2, 4, 8), (0.1, 0.5, 0.9)
CELLS = len(TEMPERATURES) * len(ALPHAS)
ONE_PASS = "hydra/launcher=one_pass"


def measure_sweep(setup: Setup, plain: dict[str, object], epochs: int) -> dict[str, Any]:
    """Run the sweep by each program, with this many epochs for teacher and students; return the seconds of each."""
    found: dict[str, Any] = {"cells": CELLS, "epochs": epochs, "naive": naive_sweep(setup, plain, epochs)}
    found["ours"] = our_sweep(setup, epochs, "sweep")
    if (Path(conf_dir()) / "hydra" / "launcher" / "one_pass.yaml").is_file():
        found["ours, one pass"] = our_sweep(setup, epochs, "one_pass", ONE_PASS)
    cfg, _ = compose_checked([])
    found["recipe_epochs"] = {"teacher": cfg.train.teacher.epochs, "student": cfg.train.student.epochs}
    return found


def naive_sweep(setup: Setup, plain: dict[str, object], epochs: int) -> dict[str, float]:
    """Return the seconds of the person's loop: of the teacher, of all students, and in total."""
    setup = replace(setup, setting=replace(setup.setting, epochs=epochs))
    job = Naive(setup, plain)
    job.prepare()
    with own_torch_state(plain):
        began = time.perf_counter()
        job.refresh()
        fit_naively(job, job.teacher, None, setup.plan.teachers[0].recipe)
        setup = replace(setup, teacher=job.teacher)
        teacher = time.perf_counter() - began
        for temperature in TEMPERATURES:
            for alpha in ALPHAS:
                cell = Naive(setup, plain, temperature, alpha)
                cell.prepare()
                cell.refresh()
                cell.train()
        total = time.perf_counter() - began
    return {"teacher": teacher, "students": total - teacher, "total": total}


def our_sweep(setup: Setup, epochs: int, name: str, *more: str) -> dict[str, float]:
    """Return the seconds of the framework's command, in total and of its parts.

    Raises:
        RuntimeError: the command failed.
    """
    folder = share_data(setup.setting, name)
    own = [
        f"outputs={folder}",
        f"train.teacher.epochs={epochs}",
        f"train.student.epochs={epochs}",
        "baseline=false",
        "report=false",
    ]
    grid = [f"kd.temperature={','.join(map(str, TEMPERATURES))}", f"kd.alpha={','.join(map(str, ALPHAS))}"]
    command = [sys.executable, "-m", "kd.run", "-m", *setup.setting.arguments(*own), *grid, *more]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    total = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"the sweep failed:\n{done.stdout[-2000:]}")
    teacher = next(iter(_seconds(folder, "teachers")), 0.0)
    students = _seconds(folder, "students")
    if len(students) != CELLS:
        raise RuntimeError(f"the sweep trained {len(students)} students:\n{done.stdout[-2000:]}")
    # each student of a pass has the seconds of the whole pass
    return {"teacher": teacher, "students": max(students) if ONE_PASS in more else sum(students), "total": total}


def _seconds(folder: Path, kind: str) -> list[float]:
    return [json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in folder.glob(f"{kind}/*/about.json")]


def extrapolate(sweep: Mapping[str, Any], name: str, fill_seconds: float) -> float:
    """Return the seconds of the sweep with the epochs of the recipe: measured, plus further epochs as measured.

    Args:
        fill_seconds: to fill the logit cache of an epoch, in ``ours``.
    """
    own, done, recipe = sweep[name], sweep["epochs"], sweep["recipe_epochs"]
    teacher, student = (
        own[key] / done * (recipe[role] - done) for key, role in (("teacher",) * 2, ("students", "student"))
    )
    filled = 0.0 if name == "naive" else fill_seconds * (recipe["student"] - done)
    return own["total"] + teacher + student + filled
