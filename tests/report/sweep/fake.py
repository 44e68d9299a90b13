"""Make the folder of a sweep as ``python -m kd.run -m`` does, in a second: logits are random, everything else is real.

The settings are composed from conf/, keys are those of kd.pipeline.keys, scores and ratios those of
kd.evaluation.metrics and kd.pipeline.results. As in a real store a teacher, a baseline or a student of one key has the
same logits in every cell; at alpha = 0 the student is the baseline, and the cells of all temperatures share one run
folder. ``data.drawing_seed`` makes another test set, ``data.label_noise`` another training and validation set.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from kd.evaluation.metrics import summary
from kd.pipeline.keys import run_keys, run_name
from kd.pipeline.results import compare
from kd.records.ledger import JobEntry, begin_sweep
from kd.records.run_folder import write_result
from kd.report.run.sampling import choose_images
from kd.runtime.values import flatten
from kd.store.files import write_text
from kd.store.store import KEY_DIGITS, digest
from tests.conftest import compose

CLASSES = ("forest", "sea_side", "ice", "street")
VAL = 400
CHOICES = {"data": "scenes", "attention": "none", "teacher": "resnet18", "student": "tiny_cnn", "kd": "hinton"}
TEACHERS = {"resnet18": (11_178_564, 0.0), "resnet34": (21_286_724, 0.25)}  # parameters, additional skill
SKILL = {"teacher": 2.6, "student": 2.1}  # margin of the right class's logit; the noise has deviation 1
METHODS = {"supervised": 0.0, "dkd": 0.6, "at": 0.05, "label_smoothing": -0.3}  # additional skill; others 0.2


def gain_of(temperature: float, alpha: float) -> float:
    """Return what distillation adds to a student's skill: at most 0.55, about 6 points, at T = 4 and alpha = 0.9."""
    return 0.55 * math.exp(-(math.log2(temperature / 4) ** 2) / 4) * (1 - (1 - alpha / 0.9) ** 2)


def gain_of_method(name: str, settings: Mapping[str, Any]) -> float:
    return gain_of(settings["temperature"], settings["alpha"]) if name == "hinton" else METHODS.get(name, 0.2)


def make_sweep(
    folder: Path,
    *,
    temperatures: Sequence[float] = (1, 4),
    alphas: Sequence[float] = (0, 0.5, 0.9),
    seeds: Sequence[int] | None = (0, 1, 2),
    failed: Collection[Mapping[str, Any]] = (),
    missing: Collection[Mapping[str, Any]] = (),
    running: Collection[Mapping[str, Any]] = (),
    more: Mapping[str, Sequence[Any]] | None = None,
    fixed: Sequence[str] = ("teacher=resnet18", "tracking=disabled"),
    baseline: bool = True,
    test: int = 300,
) -> Path:
    """Write ``folder`` (…/sweeps/<name>) and the runs of its cells in …/runs, and return ``folder``.

    Args:
        temperatures, alphas, seeds: swept values; a list of one value, or None, is not swept and in no cell.
        failed, missing, running: cells by some of their overrides, ``[{"kd.temperature": 4, "seed": 1}]``: every cell
            with all of them failed, has not begun, or is running.
        more: further swept overrides, also groups: ``{"teacher": ["resnet18", "resnet34"], "student.width": [1, 2]}``;
            ``{"kd": ["hinton", "dkd"]}`` with temperatures and alphas None, because not every method has them.
        fixed: overrides that all cells share. baseline: False leaves the baselines out. test: images of the test split.
    """
    lists = {"kd.temperature": temperatures, "kd.alpha": alphas, **(more or {}), "seed": seeds}
    swept = {name: list(values) for name, values in lists.items() if values is not None and len(values) > 1}
    alone = {name: values[0] for name, values in lists.items() if values is not None and len(values) == 1}
    shared = (*fixed, *([] if baseline else ["baseline=false"]), *(f"{name}={value}" for name, value in alone.items()))
    cells = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    named = [[f"{name}={value}" for name, value in cell.items()] for cell in cells]
    command = " ".join(["python -m kd.run -m", *shared, *(f"{k}={','.join(map(str, v))}" for k, v in swept.items())])
    begin_sweep(folder, command, shared, shared, list(swept), named)
    for cell, overrides in zip(cells, named, strict=True):

        def matches(some: Collection[Mapping[str, Any]], cell: Mapping[str, Any] = cell) -> bool:
            return any(all(cell.get(name) == value for name, value in one.items()) for one in some)

        if matches(missing):
            continue
        entry = JobEntry(folder, overrides)
        entry.began -= 40  # as if it had taken 40 s
        entry.facts["began"] = entry.began
        if matches(running):
            entry.write("running")
        elif matches(failed):
            entry.facts["error"] = "ArithmeticError: the loss is nan at epoch 2"
            entry.write("failed")
        else:
            run, reused = make_run(folder.parent.parent / "runs", [*shared, *overrides], test)
            entry.finish(run, json.loads((run / "result.json").read_text(encoding="utf-8")), reused)
            entry.write("found" if reused else "done")
    return folder


def make_run(runs: Path, overrides: Sequence[str], test: int = 300) -> tuple[Path, bool]:
    """Make the run of a command line, or reuse it. Return its folder, and whether it was reused."""
    choices = CHOICES | {k: v for k, v in (override.split("=", 1) for override in overrides) if k in CHOICES}
    cfg = _base(choices["teacher"], choices["kd"]).copy()
    for override in overrides:
        name, value = override.split("=", 1)
        if name not in choices and name != "tracking":
            OmegaConf.update(cfg, name, OmegaConf.create(f"x: {value}").x)
    settings = OmegaConf.to_container(cfg, resolve=True)
    settings["train"]["precision"] = "float32"
    seed, weights = settings["seed"], settings["kd"]["weights"]
    uses_teacher = any(weight for term, weight in weights.items() if term != "hard")
    drawing, own = (
        settings["data"]["drawing_seed"],
        OmegaConf.to_container(_base(choices["teacher"], choices["kd"]).data),
    )
    others = {name: value for name, value in settings["data"].items() if value != own[name]}
    keys = run_keys(settings, f"fake scenes, {test}" + (f", {others}" if others else ""), uses_teacher)
    name = run_name(settings, choices, digest(keys.run))
    for same in runs.glob(f"*-{digest(keys.run)[:KEY_DIGITS]}"):  # made for other settings that compute the same
        return same, True
    folder = runs / name

    width = settings["student"]["width"]
    params, more_skill = TEACHERS[choices["teacher"]]
    skill = SKILL["student"] + 0.2 * math.log2(width)
    networks = {"teacher": (keys.teacher, SKILL["teacher"] + more_skill, None), "student": None}
    networks["student"] = (keys.networks["student"], skill + gain_of_method(choices["kd"], settings["kd"]), seed)
    if settings["baseline"]:
        networks["baseline"] = (keys.networks["baseline"], skill, seed)
    drawn = {role: _logits(digest(key), margin, seed, test, drawing) for role, (key, margin, seed) in networks.items()}
    targets, logits = _target(test, drawing), {role: logits[0] for role, logits in drawn.items()}
    merits: dict[str, Any] = {}
    for role in logits:
        cost = _cost(params, 14.2) if role == "teacher" else _cost(int(94_470 * width**2), 1.3 * width)
        merits[role] = {**summary(logits[role], targets, CLASSES), **cost, "training": _training(*drawn[role][1:])}
    merits.setdefault("baseline", None)

    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    np.savez_compressed(folder / "predictions.npz", index=np.arange(test) + 1000, target=targets, **logits)
    rows = choose_images(targets, logits, seed)
    images = np.random.default_rng(seed).integers(0, 256, (len(rows), 12, 12, 3), dtype=np.uint8)
    np.savez_compressed(folder / "images.npz", row=rows, image=images)
    stages = ("teacher", *(["baseline"] if settings["baseline"] else []), "student")
    history = [{"stage": stage, **line} for stage in stages for line in _history(merits[stage]["training"])]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history))
    write_text(folder / "report.md", f"# {name}\n")
    machine = {"device": "cpu", "device_name": "a processor", "threads": 2, "torch": "2.15.0", "python": "3.11.7"}
    about = {"version": 1, "name": name, "key": digest(keys.run), "choices": choices, "seed": seed}
    about |= {"command": "python -m kd.run " + " ".join(overrides), "settings": dict(flatten(settings))}
    content = {"test": digest({"test": test, "drawing": drawing})[:20], "val": digest({"val": others})[:20]}
    data = {
        "content": content,
        "name": "scenes",
        "classes": list(CLASSES),
        "image_size": 12,
        "train": 1200,
        "val": VAL,
        "test": test,
    }
    seconds = {"data": 0.1, "teacher": 0.0, "logit_cache": 0.5, "baseline": 9.0, "student": 11.0, "evaluate": 3.0}
    result = {**about, **merits, "comparison": compare(merits, logits, targets), "data": {**data, "notes": {}}}
    result |= {"machine": {**machine, "precision": "float32"}, "seconds": {**seconds, "report": 2.0, "total": 25.6}}
    write_result(folder, result)
    return folder, False


@functools.cache
def _base(teacher: str, kd: str) -> DictConfig:
    """Return the composed config; Hydra is too slow to compose it for every cell."""
    return compose("data=scenes", "student=tiny_cnn", f"kd={kd}", f"teacher={teacher}", "attention=none")


def _target(count: int, drawing: int) -> np.ndarray:
    return np.random.default_rng(7 + 1000 * drawing).integers(0, len(CLASSES), count)


def _logits(key: str, skill: float, seed: int | None, test: int, drawing: int) -> tuple[np.ndarray, float, float]:
    """Return logits float32 [test, K] of the network of one key, its validation accuracy and its training time.

    The difficulty of an image is the same for all networks; student and baseline share the noise of their seed; the
    rest depends on the key.
    """
    targets = np.concatenate([_target(test, drawing), np.random.default_rng(8).integers(0, len(CLASSES), VAL)])
    shape = len(targets), len(CLASSES)
    hard = np.random.default_rng(9).normal(size=shape)
    shared = np.random.default_rng(100 + seed).normal(size=shape) if seed is not None else np.zeros(shape)
    own = np.random.default_rng(int(key[:KEY_DIGITS], 16))
    luck = 0.05 * own.normal()  # of one training: half a point of accuracy
    noise = 0.75 * hard + 0.45 * shared + 0.5 * own.normal(size=shape)
    logits = (noise + (skill + luck) * np.eye(len(CLASSES))[targets]).astype(np.float32)
    right = logits.argmax(1) == targets
    return 1.5 * logits[:test], float(right[test:].mean()), 8 + 2 * own.random()


def _cost(params: int, milliseconds: float) -> dict[str, Any]:
    times = {"batch_1": milliseconds, "batch_64": 30 * milliseconds}
    return {
        **{"params": params, "params_published": params, "macs": 40 * params, "size_mb": params * 4 / 2**20},
        **_timed(times),
        "one_thread": _timed({batch: 1.5 * p50 for batch, p50 in times.items()}),
    }


def _timed(times: Mapping[str, float]) -> dict[str, Any]:
    latency = {batch: {"p50": p50, "p95": 1.2 * p50, "calm": True} for batch, p50 in times.items()}
    return {"latency_ms": latency, "throughput": 64e3 / times["batch_64"]}


def _training(val_accuracy: float, seconds: float) -> dict[str, Any]:
    about = {"epochs": 4, "best_epoch": 3, "best_val_accuracy": val_accuracy, "last_val_accuracy": val_accuracy - 0.01}
    return {**about, "seconds": seconds, "found": False}


def _history(training: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for epoch in range(1, training["epochs"] + 1):
        accuracy = training["best_val_accuracy"] * {1: 0.7, 2: 0.9, 3: 1.0}.get(epoch, 0.98)
        scores = {"val_accuracy": accuracy, "train_accuracy": accuracy + 0.01, "val_loss": 1 - accuracy / 2}
        pace = {"lr": 0.004 / epoch, "images_per_s": 900.0, "seconds": 2.2}
        lines.append({"epoch": epoch, "loss": 1.5 / epoch, "hard": 1.5 / epoch, **scores, **pace})
    return lines


if __name__ == "__main__":  # python -m tests.report.sweep.fake FOLDER makes one to look at
    import sys

    began = time.perf_counter()
    sweep = make_sweep(Path(sys.argv[1]), temperatures=(1, 2, 4, 8), alphas=(0, 0.1, 0.5, 0.9))
    print(f"{sweep}: made in {time.perf_counter() - began:.1f} s")
