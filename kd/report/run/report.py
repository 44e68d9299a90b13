"""Make the report of a run from its files alone. ``python -m kd.report FOLDER`` makes it again."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd.diagnose.evidence import Evidence, read_views
from kd.diagnose.verdict import Diagnosis, diagnose
from kd.records.run_folder import (
    ROLE_LABELS,
    ReportError,
    Rows,
    batch_sizes,
    check_predictions,
    is_calm,
    load_arrays,
    load_json,
    load_lines,
    read_attention,
    read_part,
    roles_of,
)
from kd.report.run.diagnosis import panels_text
from kd.report.run.page import page
from kd.report.run.sampling import SAMPLE, choose_not_won, draw_sample
from kd.report.text import batch_label, escape, percent, standard_error
from kd.store.files import write_text


def _curves(metrics: Rows, keys: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return label -> arrays by epoch; NaN for a number that was not logged. A role without lines is left out."""
    curves = {}
    for key in keys:
        # a run that was killed and resumed may have written an epoch twice: the later line counts
        lines = {line["epoch"]: line for line in metrics if line.get("stage") == key}
        if lines:
            epochs = sorted(lines)
            curves[ROLE_LABELS[key]] = {"epoch": np.array(epochs)} | {
                name: np.array([_number(lines[epoch].get(name)) for epoch in epochs])
                for name in ("loss", "val_loss", "train_accuracy", "val_accuracy")
            }
    return curves


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def write_report(folder: Path) -> dict[str, Path]:
    """Write ``report.md`` and ``figures/*.png`` into a run's folder, from the files there.

    Returns:
        Paths by name: the figures, and ``report.md`` as "report".

    Raises:
        ReportError: a file is missing or damaged, or belongs to another run than the others.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # Path.is_dir raises where a name is too long
        raise ReportError(f"{folder} is not a folder. Give the folder of a run, the one that holds result.json.")
    result = read_part(folder, "result.json", load_json)
    read_part(folder, "config.yaml", lambda path: path.read_text(encoding="utf-8"))
    metrics = read_part(folder, "metrics.jsonl", load_lines)
    arrays = read_part(folder, "predictions.npz", load_arrays)
    samples = read_part(folder, "images.npz", load_arrays)
    try:
        page(result, {}, [])  # reports a missing entry before the figures take seconds
        check_predictions(folder, result, arrays)
        attention = read_attention(folder, result, samples)
        diagnosis = diagnose(Evidence(result, metrics, arrays, read_views(folder, result)))
        return _write(folder, diagnosis, samples, attention)
    except KeyError as error:
        raise ReportError(f"{folder}: the entry {error} is missing in result.json or in an array file.") from error


def _write(folder: Path, diagnosis: Diagnosis, samples: dict, attention: dict) -> dict[str, Path]:
    # seaborn takes seconds to import, and the terminal's table does not need it
    from kd.report.figures.confusion import confusion, confusion_difference, rows_to_percent
    from kd.report.figures.curves import overview, per_class_scores, reliability, training_curves
    from kd.report.figures.diagnosis import diagnosis_panels
    from kd.report.figures.images import attention_maps, disagreement_grid, prediction_grid
    from kd.report.figures.style import can_draw, save

    result, metrics, arrays, _ = diagnosis.evidence
    keys, classes = roles_of(result), result["data"]["classes"]
    target, count = arrays["target"], result["data"]["test"]
    label = {key: ROLE_LABELS[key] for key in keys}
    made: dict[str, tuple[Any, str]] = {}  # name -> figure, alt text

    points = {
        label[key]: {
            "accuracy": result[key]["accuracy"],
            "error": standard_error(result[key]["accuracy"], count),
            "params": result[key]["params"],
            "latency": result[key]["latency_ms"][batch_sizes(result)[0]]["p50"],
            "calm": is_calm(result[key], batch_sizes(result)[0]),
        }
        for key in keys
    }
    made["overview"] = (
        overview(points, batch_label(batch_sizes(result)[0])),
        "Test accuracy against parameters and latency: "
        + "; ".join(f"{name} {percent(point['accuracy'])} %" for name, point in points.items()),
    )
    made["diagnosis"] = diagnosis_panels(diagnosis.figures), panels_text(diagnosis.figures)
    curves = _curves(metrics, keys)
    if curves:
        best = {label[key]: result[key]["training"]["best_epoch"] for key in keys}
        made["training"] = (
            training_curves(curves, best),
            f"Loss and accuracy by epoch of {'; '.join(curves)}; a star marks the epoch that was kept",
        )
    scores = {
        label[key]: np.array(
            [
                _number(result[key]["per_class"][name]["f1"]) if result[key]["per_class"][name]["support"] else np.nan
                for name in classes
            ]
        )
        for key in keys
    }
    made["per_class_f1"] = per_class_scores(scores, classes), f"F1 of each class for {'; '.join(scores)}"
    confusions = {key: np.array(result[key]["confusion"]) for key in keys}
    for key in keys:
        made[f"confusion_{key}"] = (
            confusion(confusions[key], classes, label[key]),
            f"Confusion matrix ({label[key]}): counts, and percent of the true class",
        )
    shares = {key: rows_to_percent(confusions[key]) for key in keys}
    if others := [key for key in keys if key != "student"]:
        made["confusion_difference"] = (
            confusion_difference(
                {f"student − {label[key]}": shares["student"] - shares[key] for key in others}, classes
            ),
            "Difference of the row-normalised confusion matrices, in points",
        )
    made["reliability"] = (
        reliability(
            target, {label[key]: arrays[key] for key in keys}, {label[key]: result[key]["ece"] for key in keys}
        ),
        "Reliability diagram: " + "; ".join(f"{label[key]} ECE {percent(result[key]['ece'])} %" for key in keys),
    )

    sample, differ, total = draw_sample(target, arrays, result["seed"])
    place = {int(row): k for k, row in enumerate(samples["row"])}
    shown = [row for row in sample if row in place] or list(place)[:SAMPLE]
    if shown:
        images = samples["image"][[place[row] for row in shown]]
        for key in keys:
            made[f"predictions_{key}"] = (
                prediction_grid(images, target[shown], arrays[key][shown], classes, label[key]),
                f"{len(shown)} test images with the true class and the prediction of the {label[key]}",
            )

    def compared(rows: Sequence[int], *about: Any) -> Any:
        images = samples["image"][[place[row] for row in rows]]
        return disagreement_grid(
            images, target[rows], arrays["teacher"][rows], arrays["student"][rows], classes, *about
        )

    if shown := [row for row in differ if row in place]:
        made["disagreement"] = (
            compared(shown, total),
            f"{len(shown)} test images on which student and teacher disagree, with both answers",
        )
    missed = choose_not_won(target, arrays, result["seed"]) if diagnosis.figures["answers"] else ()
    if shown := [row for row in missed if row in place]:
        which = "that the teacher has right, baseline and student wrong"
        made["not_won"] = (
            compared(shown, len(diagnosis.figures["gain"]["not_won"]), which),
            f"{len(shown)} test image{'s' * (len(shown) != 1)} {which}, with the answers of teacher and student",
        )

    gates = {name: maps for name, maps in attention.items() if name != "row"}
    if gates and len(attention["row"]):
        shown = attention["row"]
        images = samples["image"][[place[int(row)] for row in shown]]
        made["attention"] = (
            attention_maps(images, target[shown], arrays["teacher"][shown], classes, gates),
            f"{len(shown)} test images, overlaid with the maps of the teacher's gates: {', '.join(gates)}",
        )

    remarks = []
    undrawn = [f"#{k} {escape(name)}" for k, name in enumerate(classes) if not can_draw(name)]
    if undrawn:
        remarks.append("No font on this machine can draw these names, so figures show numbers: " + ", ".join(undrawn))
    document = page(result, {name: alt for name, (_, alt) in made.items()}, remarks, diagnosis)
    (folder / "figures").mkdir(exist_ok=True)
    paths = {}
    for name, (figure, _) in made.items():
        paths[name] = folder / "figures" / f"{name}.png"
        save(figure, paths[name])
    paths["report"] = folder / "report.md"
    write_text(paths["report"], document)
    return paths
