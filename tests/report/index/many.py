"""Make an outputs folder of a thousand runs in their real format, in seconds: files of one run with other numbers.

The first run is ``tests.report.sweep.fake``'s, whose keys, settings and scores are real; the others are it with other
methods, students, seeds and scores. ``predictions.npz``, ``images.npz`` and the weights, which the front page never
reads, are left out of them.

    python -m tests.report.index.many FOLDER --runs 1000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

from kd.records.ledger import JobEntry, begin_sweep
from kd.records.run_folder import begin_run, note_failure, write_result
from kd.store.files import write_manifest, write_text
from kd.store.store import KEY_DIGITS, digest
from tests.report.sweep.fake import make_run

METHODS = {"hinton": 1.2, "dkd": 2.1, "at": 0.3, "crd": 1.9, "rkd": 0.8, "reviewkd": 2.0, "nst": -0.9, "ofa": 1.5}
STUDENTS = {"tiny_cnn": (94_470, 1.3), "resnet20": (272_474, 2.9), "vgg8": (3_965_028, 6.4), "wrn_16_2": (703_284, 4.1)}
DATA = ("scenes", "cifar100")
STATES = ("finished",) * 94 + ("failed",) * 3 + ("interrupted",) * 2 + ("damaged",)


def make_outputs(folder: Path, runs: int = 1000, classes: int = 10, epochs: int = 60) -> Path:
    """Write ``folder``/runs with ``runs`` run folders, and a sweep with the first hundred; return ``folder``."""
    luck = random.Random(0)
    first, _ = make_run(folder / "seed", ["teacher=resnet34"])
    result = json.loads((first / "result.json").read_text(encoding="utf-8"))
    config = (first / "config.yaml").read_text(encoding="utf-8")
    cells, now = [], time.time()
    for number in range(runs):
        made = _run(result, number, luck, classes)
        home = folder / "runs" / made["name"]
        state = STATES[(number * 37) % len(STATES)]
        begin_run(home, config, {name: made[name] for name in ("key", "command", "choices")})
        rows = _rows(made, epochs if state == "finished" else epochs // 2)
        write_text(home / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        if state == "failed":
            note_failure(
                home, "ArithmeticError: the loss is nan at epoch 7 of the student: try a smaller train.student.lr"
            )
        elif state in ("finished", "damaged"):
            write_result(home, made)
            write_text(home / "report.md", f"# {made['name']}\n")
            write_manifest(home, ("config.yaml", "metrics.jsonl", "result.json"))
            (home / ".unfinished").unlink()
        if state == "damaged":
            with (home / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write("\n")
        began = now - 600.0 * number
        os.utime(home / "metrics.jsonl", (began, began))
        if number < 100:
            cells.append((made, home, state))
    _sweep(folder / "sweeps" / "methods", cells)
    return folder


def _run(base: dict[str, Any], number: int, luck: random.Random, classes: int) -> dict[str, Any]:
    result = deepcopy(base)
    method, student = (names[number // step % len(names)] for names, step in (([*METHODS], 1), ([*STUDENTS], 8)))
    data, seed, temperature = DATA[number // 32 % 2], number // 64 % 5, (1, 2, 4, 8)[number // 3 % 4]
    result["choices"] = {**base["choices"], "kd": method, "student": student, "data": data}
    settings = [f"data={data}", f"student={student}", f"kd={method}", "train.student.epochs=60", f"seed={seed}"]
    settings += [f"kd.temperature={temperature}"] if method in ("hinton", "dkd") else []
    settings += [f"train.student.lr={0.001 * (1 + number // 320)}"]
    result["command"] = "python -m kd.run teacher=resnet34 " + " ".join(settings)
    result["settings"] |= {"seed": seed, "train.student.lr": 0.001 * (1 + number // 320)}
    if method in ("hinton", "dkd"):
        result["settings"]["kd.temperature"] = temperature
    else:
        del result["settings"]["kd.temperature"]
    result["seed"] = seed
    params, milliseconds = STUDENTS[student]
    accuracy = (0.62 if data == "cifar100" else 0.78) + 0.03 * math.log10(params / 1e5) + luck.gauss(0, 0.004)
    gain = METHODS[method] / 100 + luck.gauss(0, 0.004)
    names = [f"class {k}" for k in range(classes)]
    for role, score in (
        ("baseline", accuracy),
        ("student", accuracy + gain),
        ("teacher", 0.74 if data == "cifar100" else 0.89),
    ):
        own = result[role]
        own |= {
            "accuracy": score,
            "macro_f1": score - 0.01,
            "balanced_accuracy": score,
            "ece": abs(luck.gauss(0.05, 0.02)),
        }
        own["confusion"] = [[luck.randrange(50) for _ in names] for _ in names]
        own["per_class"] = {name: dict(next(iter(own["per_class"].values()))) for name in names}
        own["training"] |= {"best_val_accuracy": score + 0.01, "epochs": 60}
    result["student"] |= {"params": params, "size_mb": params * 4 / 2**20}
    for batch in result["student"]["latency_ms"].values():
        batch["p50"] = milliseconds * luck.uniform(0.95, 1.05)
    result["comparison"]["accuracy_gain"] = gain
    result["data"] |= {"name": data, "classes": names}
    result["key"] = digest({"number": number})
    result["name"] = f"{data}-resnet34-{student}-{method}-seed{seed}-{result['key'][:KEY_DIGITS]}"
    return result


def _rows(result: dict[str, Any], epochs: int) -> list[dict[str, Any]]:
    rows = []
    for stage in ("teacher", "baseline", "student"):
        best = result[stage]["accuracy"]
        for epoch in range(1, epochs + 1):
            score = best * (1 - 0.6 * math.exp(-epoch / 9)) + 0.01 * math.sin(7 * epoch + best * 999)
            row = {
                "stage": stage,
                "epoch": epoch,
                "loss": 2.3 * math.exp(-epoch / 20) + best / 9,
                "val_accuracy": score,
            }
            row |= {"hard": 1.1, "train_accuracy": score * 1.03, "lr": 0.004, "images_per_s": 900.0, "seconds": 2.2}
            if stage == "student" and epoch in (1, epochs // 10, epochs):
                share = 0.2 + 0.5 * epoch / epochs
                terms = {"hard": (1.0, 1 - share, 1.0), "soft": (2.0, share, 0.4)}
                named = {
                    term: dict(zip(("norm", "share", "cosine"), value, strict=True)) for term, value in terms.items()
                }
                row["gradients"] = [{"progress": epoch / epochs, "terms": named}]
            rows.append(row)
    return rows


def _sweep(folder: Path, cells: list[tuple[dict[str, Any], Path, str]]) -> None:
    swept = ["data", "student", "kd", "train.student.epochs", "seed", "kd.temperature", "train.student.lr"]
    named = [sorted(made["command"].split()[4:]) for made, _, _ in cells]
    begin_sweep(
        folder, "python -m kd.run -m teacher=resnet34 kd=hinton,dkd seed=0,1", ["teacher=resnet34"], [], swept, named
    )
    for (made, home, state), overrides in zip(cells, named, strict=True):
        entry = JobEntry(folder, overrides)
        if state == "finished":
            entry.finish(home, made, found=False)
            entry.write("done")
        else:
            entry.facts["error"] = "ArithmeticError: the loss is nan at epoch 7"
            entry.write("failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path)
    for name, default in (("runs", 1000), ("classes", 10), ("epochs", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    began = time.perf_counter()
    make_outputs(given.folder, given.runs, given.classes, given.epochs)
    print(f"{given.runs} runs in {given.folder}: made in {time.perf_counter() - began:.1f} s")
