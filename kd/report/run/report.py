"""The report of a run, made from its files alone: ``python -m kd.report FOLDER`` makes it again, a sweep's too."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
from kd.report.run.page import page
from kd.report.run.sampling import SAMPLE, draw_sample
from kd.report.text import batch_label, escape, percent, standard_error
from kd.store.files import write_text


def _curves(metrics: Rows, keys: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return label -> arrays by epoch; NaN for a number that was not logged. A stage without lines is left out."""
    curves = {}
    for key in keys:
        # A run that was killed and went on may have written an epoch twice: the later line counts.
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
    """Make ``report.md`` and ``figures/*.png`` in a run's folder from its files.

    Returns:
        Paths by name: the figures, and the page as "report".

    Raises:
        ReportError: when a file is missing, damaged, or not of the same run as the others.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # Path.is_dir raises where a name is too long
        raise ReportError(f"{folder} is no folder. Give the folder of a run, the one that holds result.json.")
    result = read_part(folder, "result.json", load_json)
    read_part(folder, "config.yaml", lambda path: path.read_text(encoding="utf-8"))
    metrics = read_part(folder, "metrics.jsonl", load_lines)
    arrays = read_part(folder, "predictions.npz", load_arrays)
    samples = read_part(folder, "images.npz", load_arrays)
    try:
        page(result, {}, [])  # a missing entry is found here, before seconds go into figures
        check_predictions(folder, result, arrays)
        attention = read_attention(folder, result, samples)
        return _write(folder, result, metrics, arrays, samples, attention)
    except KeyError as error:
        raise ReportError(f"{folder}: the entry {error} is missing in result.json or in an array file.") from error


def _write(folder: Path, result: dict, metrics: Rows, arrays: dict, samples: dict, attention: dict) -> dict[str, Path]:
    from kd.report.figures import confusion, style
    from kd.report.figures import (  # seaborn takes seconds to import, and the terminal's table does not need it
        curves as figures_curves,
    )
    from kd.report.figures import images as figures_images

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
        figures_curves.overview(points, batch_label(batch_sizes(result)[0])),
        "Test accuracy against parameters and latency: "
        + "; ".join(f"{name} {percent(point['accuracy'])} %" for name, point in points.items()),
    )
    curves = _curves(metrics, keys)
    if curves:
        best = {label[key]: result[key]["training"]["best_epoch"] for key in keys}
        made["training"] = (
            figures_curves.training_curves(curves, best),
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
    made["per_class_f1"] = figures_curves.per_class_scores(scores, classes), f"F1 of each class for {'; '.join(scores)}"
    confusions = {key: np.array(result[key]["confusion"]) for key in keys}
    for key in keys:
        made[f"confusion_{key}"] = (
            confusion.confusion(confusions[key], classes, label[key]),
            f"Confusion matrix ({label[key]}): counts, and percent of the true class",
        )
    shares = {key: confusion.rows_to_percent(confusions[key]) for key in keys}
    made["confusion_difference"] = (
        confusion.confusion_difference(
            {f"student − {label[key]}": shares["student"] - shares[key] for key in keys if key != "student"}, classes
        ),
        "Difference of the row-normalised confusion matrices, in points",
    )
    made["reliability"] = (
        figures_curves.reliability(
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
                figures_images.prediction_grid(images, target[shown], arrays[key][shown], classes, label[key]),
                f"{len(shown)} test images with the true class and what is predicted by: {label[key]}",
            )
    shown = [row for row in differ if row in place]
    if shown:
        made["disagreement"] = (
            figures_images.disagreement_grid(
                samples["image"][[place[row] for row in shown]],
                target[shown],
                arrays["teacher"][shown],
                arrays["student"][shown],
                classes,
                total,
            ),
            f"{len(shown)} test images on which student and teacher disagree, with both answers",
        )

    gates = {name: maps for name, maps in attention.items() if name != "row"}
    if gates and len(attention["row"]):
        shown = attention["row"]
        images = samples["image"][[place[int(row)] for row in shown]]
        made["attention"] = (
            figures_images.attention_maps(images, target[shown], arrays["teacher"][shown], classes, gates),
            f"{len(shown)} test images, and over each what the teacher's gates let through: {', '.join(gates)}",
        )

    remarks = []
    undrawn = [f"#{k} {escape(name)}" for k, name in enumerate(classes) if not style.can_draw(name)]
    if undrawn:
        remarks.append("No font of this machine has these names, so figures show their numbers: " + ", ".join(undrawn))
    document = page(result, {name: alt for name, (_, alt) in made.items()}, remarks)
    (folder / "figures").mkdir(exist_ok=True)
    paths = {}
    for name, (figure, _) in made.items():
        paths[name] = folder / "figures" / f"{name}.png"
        style.save(figure, paths[name])
    paths["report"] = folder / "report.md"
    write_text(paths["report"], document)
    return paths
