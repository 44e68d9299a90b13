"""The report of a run, made from its files alone: ``python -m kd.report FOLDER`` makes it again, a sweep's too."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd.page import page
from kd.progress import place
from kd.store import write_text
from kd.streams import open_streams
from kd.tables import (
    LABEL,
    Rows,
    batches,
    escape,
    is_calm,
    markdown_table,
    models,
    percent,
    seeds_rows,
    spoken,
    standard_error,
    terminal_table,
)

SAMPLE = 10  # pictures of the prediction grids
DISAGREEMENTS = 10  # pictures of the grid on which student and teacher disagree
ATTENDED = 4  # pictures that the teacher gets right, and as many that it gets wrong, with attention maps
FILES = {  # what the report reads: what it is for, and where it comes from
    "config.yaml": ("the settings of the run, which the report links to", "kd.run writes it before training"),
    "result.json": ("the numbers of every table", "kd.run writes it after the evaluation on the test split"),
    "metrics.jsonl": ("the training curves", "kd.run adds a line an epoch while it trains"),
    "predictions.npz": ("the logits on the test split", "kd.run writes it when it evaluates the models"),
    "pictures.npz": ("the pictures of the prediction grids", "kd.run writes it beside predictions.npz"),
}
OPTIONAL = {  # the same, of what is read where it is there
    "attention.npz": ("the attention maps of the teacher", "kd.run writes it where the teacher has spatial gates"),
}


class ReportError(ValueError):
    """The report cannot be made; the message says which file is at fault and what would be right."""


def choose_pictures(
    target: np.ndarray, logits_by_model: Mapping[str, np.ndarray], seed: int, attended: bool = False
) -> np.ndarray:
    """Return the rows of predictions.npz whose pictures a report needs: int64, sorted, each once.

    A sample for the prediction grids, and some on which student and teacher disagree; both drawn by ``seed``.

    Args:
        target: [N]. logits_by_model: "teacher" and "student" -> [N, K]. attended: those of ``choose_attended`` too.
    """
    sample, differ, _ = _draw(target, logits_by_model, seed)
    rows = [sample, differ, *([choose_attended(target, logits_by_model["teacher"], seed)] if attended else [])]
    return np.unique(np.concatenate(rows)).astype(np.int64)


def choose_attended(target: np.ndarray, logits: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows of predictions.npz that get attention maps, int64: up to 4 that are right, then up to 4 wrong.

    Args:
        target: [N]. logits: the teacher's, [N, K]. seed: draws them; those of each kind are sorted.
    """
    random, right = np.random.default_rng([seed, 1]), logits.argmax(1) == target
    kinds = [np.sort(random.permutation(np.flatnonzero(kind))[:ATTENDED]) for kind in (right, ~right)]
    return np.concatenate(kinds).astype(np.int64)


def _draw(target: np.ndarray, logits: Mapping[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the rows of the sample, rows on which student and teacher disagree, and how many such rows there are."""
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(target))[:SAMPLE])
    differ = np.flatnonzero(logits["teacher"].argmax(1) != logits["student"].argmax(1))
    return sample, np.sort(random.permutation(differ)[:DISAGREEMENTS]), len(differ)


def _read(folder: Path, name: str, load: Callable[[Path], Any]) -> Any:
    path = folder / name
    purpose, origin = (FILES | OPTIONAL)[name]
    if not path.is_file():
        raise ReportError(f"{path} is missing. It holds {purpose}; {origin}.")
    try:
        return load(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReportError(f"{path} cannot be read ({error}). It holds {purpose}; {origin}.") from error


def _load_json(path: Path) -> dict[str, Any]:
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict) or result.get("version") != 1:
        raise ValueError("it is no result of version 1, the one this report knows")
    return result


def _load_lines(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from error
    return rows


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check_predictions(folder: Path, result: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse predictions that are not those of the result."""
    path, count, classes = folder / "predictions.npz", result["data"]["test"], len(result["data"]["classes"])
    for name in ("target", *models(result)):
        shape = (count,) if name == "target" else (count, classes)
        if name not in arrays or arrays[name].shape != shape:
            found = f"shape {list(arrays[name].shape)}" if name in arrays else "missing"
            raise ReportError(
                f'{path}: the array "{name}" is {found}, but result.json speaks of {count} test pictures '
                f"and {classes} classes: {list(shape)} would be right."
            )
    for name in models(result):
        accuracy = float((arrays[name].argmax(1) == arrays["target"]).mean())
        if abs(accuracy - result[name]["accuracy"]) > 1e-4:
            raise ReportError(
                f"{path} gives the {LABEL[name]} an accuracy of {accuracy:.4f}, but result.json says "
                f"{result[name]['accuracy']:.4f}: the two files are not of the same run."
            )


def _read_attention(folder: Path, result: Mapping[str, Any], pictures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return {"row": [M], "stage 1": [M, h, w], ...}; empty where there is no such file."""
    path, count = folder / "attention.npz", result["data"]["test"]
    if not path.exists():
        return {}
    arrays = _read(folder, path.name, _load_arrays)
    rows = arrays.get("row")
    if rows is None or rows.ndim != 1 or not np.isin(rows, np.intersect1d(pictures["row"], np.arange(count))).all():
        raise ReportError(
            f'{path}: the array "row" must name rows whose pictures are in pictures.npz. '
            "The two files are not of the same run."
        )
    for name, maps in arrays.items():
        if name != "row" and (maps.ndim != 3 or len(maps) != len(rows)):
            raise ReportError(
                f'{path}: the array "{name}" has shape {list(maps.shape)}; [{len(rows)}, h, w] would be right.'
            )
    return arrays


def _curves(metrics: Rows, keys: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return label -> arrays by epoch; NaN for a number that was not logged. A stage without lines is left out."""
    curves = {}
    for key in keys:
        # A run that was killed and went on may have written an epoch twice: the later line counts.
        lines = {line["epoch"]: line for line in metrics if line.get("stage") == key}
        if lines:
            epochs = sorted(lines)
            curves[LABEL[key]] = {"epoch": np.array(epochs)} | {
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
    result = _read(folder, "result.json", _load_json)
    _read(folder, "config.yaml", lambda path: path.read_text(encoding="utf-8"))
    metrics = _read(folder, "metrics.jsonl", _load_lines)
    arrays = _read(folder, "predictions.npz", _load_arrays)
    pictures = _read(folder, "pictures.npz", _load_arrays)
    try:
        page(result, {}, [])  # a missing entry is found here, before seconds go into figures
        _check_predictions(folder, result, arrays)
        attention = _read_attention(folder, result, pictures)
        return _write(folder, result, metrics, arrays, pictures, attention)
    except KeyError as error:
        raise ReportError(f"{folder}: the entry {error} is missing in result.json or in an array file.") from error


def _write(folder: Path, result: dict, metrics: Rows, arrays: dict, pictures: dict, attention: dict) -> dict[str, Path]:
    from kd import figures  # seaborn takes seconds to import, and the terminal's table does not need it

    keys, classes = models(result), result["data"]["classes"]
    target, count = arrays["target"], result["data"]["test"]
    label = {key: LABEL[key] for key in keys}
    made: dict[str, tuple[Any, str]] = {}  # name -> figure, alt text

    points = {
        label[key]: {
            "accuracy": result[key]["accuracy"],
            "error": standard_error(result[key]["accuracy"], count),
            "params": result[key]["params"],
            "latency": result[key]["latency_ms"][batches(result)[0]]["p50"],
            "calm": is_calm(result[key], batches(result)[0]),
        }
        for key in keys
    }
    made["overview"] = (
        figures.overview(points, spoken(batches(result)[0])),
        "Test accuracy against parameters and latency: "
        + "; ".join(f"{name} {percent(point['accuracy'])} %" for name, point in points.items()),
    )
    curves = _curves(metrics, keys)
    if curves:
        best = {label[key]: result[key]["training"]["best_epoch"] for key in keys}
        made["training"] = (
            figures.training_curves(curves, best),
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
    made["per_class_f1"] = figures.per_class_scores(scores, classes), f"F1 of each class for {'; '.join(scores)}"
    confusions = {key: np.array(result[key]["confusion"]) for key in keys}
    for key in keys:
        made[f"confusion_{key}"] = (
            figures.confusion(confusions[key], classes, label[key]),
            f"Confusion matrix ({label[key]}): counts, and percent of the true class",
        )
    shares = {key: figures.rows_to_percent(confusions[key]) for key in keys}
    made["confusion_difference"] = (
        figures.confusion_difference(
            {f"student − {label[key]}": shares["student"] - shares[key] for key in keys if key != "student"}, classes
        ),
        "Difference of the row-normalised confusion matrices, in points",
    )
    made["reliability"] = (
        figures.reliability(
            target, {label[key]: arrays[key] for key in keys}, {label[key]: result[key]["ece"] for key in keys}
        ),
        "Reliability diagram: " + "; ".join(f"{label[key]} ECE {percent(result[key]['ece'])} %" for key in keys),
    )

    sample, differ, total = _draw(target, arrays, result["seed"])
    place = {int(row): k for k, row in enumerate(pictures["row"])}
    shown = [row for row in sample if row in place] or list(place)[:SAMPLE]
    if shown:
        images = pictures["image"][[place[row] for row in shown]]
        for key in keys:
            made[f"predictions_{key}"] = (
                figures.prediction_grid(images, target[shown], arrays[key][shown], classes, label[key]),
                f"{len(shown)} test pictures with the true class and what is predicted by: {label[key]}",
            )
    shown = [row for row in differ if row in place]
    if shown:
        made["disagreement"] = (
            figures.disagreement_grid(
                pictures["image"][[place[row] for row in shown]],
                target[shown],
                arrays["teacher"][shown],
                arrays["student"][shown],
                classes,
                total,
            ),
            f"{len(shown)} test pictures on which student and teacher disagree, with both answers",
        )

    gates = {name: maps for name, maps in attention.items() if name != "row"}
    if gates and len(attention["row"]):
        shown = attention["row"]
        images = pictures["image"][[place[int(row)] for row in shown]]
        made["attention"] = (
            figures.attention_maps(images, target[shown], arrays["teacher"][shown], classes, gates),
            f"{len(shown)} test pictures, and over each what the teacher's gates let through: {', '.join(gates)}",
        )

    remarks = []
    undrawn = [f"#{k} {escape(name)}" for k, name in enumerate(classes) if not figures.can_draw(name)]
    if undrawn:
        remarks.append("No font of this machine has these names, so figures show their numbers: " + ", ".join(undrawn))
    document = page(result, {name: alt for name, (_, alt) in made.items()}, remarks)
    (folder / "figures").mkdir(exist_ok=True)
    paths = {}
    for name, (figure, _) in made.items():
        paths[name] = folder / "figures" / f"{name}.png"
        figures.save(figure, paths[name])
    paths["report"] = folder / "report.md"
    write_text(paths["report"], document)
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    from kd.sweeps.grid import settings_of
    from kd.sweeps.tables import COLUMNS, OVER

    open_streams()
    parser = argparse.ArgumentParser(
        prog="python -m kd.report",
        description="Make the report of a run or of a sweep again, from the files in its folder alone, and print its "
        "table. A sweep may still be running. Of several runs that differ in their seed, print mean and standard "
        "deviation too. Of a run this reads "
        + ", ".join(FILES)
        + f" and, where it is there, {', '.join(OPTIONAL)}; of a sweep its ledger and the runs that it names.",
        epilog="Exit code 2: a file is missing or damaged; the message says which one.",
    )
    parser.add_argument("folder", nargs="+", type=place, help="outputs/runs/NAME or outputs/sweeps/NAME")
    alone = parser.add_mutually_exclusive_group()
    for style in ("latex", "markdown"):
        words = (
            f"print the paper's table of a sweep as {style}, and nothing else: mean ± std (n), bold where significant"
        )
        alone.add_argument(f"--{style}", dest="style", action="store_const", const=style, help=words)
    table = parser.add_argument_group("the paper's table of a sweep")
    table.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="a further column: the accuracy of each group less that of the one group of these settings (kd=hinton; "
        "several divided by commas), paired by seed and test picture; bold where significantly better",
    )
    table.add_argument(
        "--columns", metavar="NAME,…", help=f"which, in this order: {', '.join(COLUMNS)}; {OVER}: that of --against"
    )
    table.add_argument("--sort", metavar="NAME", help="the column by which the students descend")
    chosen = parser.parse_args(arguments)
    shape = {
        "columns": [name.strip() for name in chosen.columns.split(",") if name.strip()] if chosen.columns else None,
        "sort": chosen.sort,
    }
    asked = bool(chosen.against or chosen.columns or chosen.sort)
    failed, results = False, []
    for folder in chosen.folder:
        try:
            if chosen.style or asked or os.path.isfile(folder / "sweep.json"):
                _sweep(folder, chosen.style, against=settings_of(chosen.against), **shape)
            else:
                results.append(_run(folder))
        except (ValueError, FileNotFoundError) as error:  # ReportError is a ValueError
            failed = True
            print(f"kd.report: {error}", file=sys.stderr)
    if len(results) > 1:
        try:
            print("Over seeds, mean ± standard deviation (n):\n\n" + markdown_table(seeds_rows(results), ("metric",)))
        except ValueError as error:
            print(error)
    return 2 if failed else 0


def _run(folder: Path) -> dict[str, Any]:
    paths = write_report(folder)
    result = _read(folder, "result.json", _load_json)
    print(terminal_table(result))
    print(f"Report: {paths['report']} with {len(paths) - 1} figures\n")
    return result


def _sweep(folder: Path, style: str | None, **shape: Any) -> None:
    """``shape`` is what ``kd.sweeps.tables.markdown`` takes."""
    from kd.sweeps import tables
    from kd.sweeps.grid import groups
    from kd.sweeps.ledger import read_sweep
    from kd.sweeps.report import write_sweep_report

    if style:
        print(getattr(tables, style)(groups(read_sweep(folder)), **shape))
        return
    table = tables.markdown(groups(read_sweep(folder)), **shape)
    made = write_sweep_report(folder)
    print(table or "No cell has finished yet.")
    print(f"Report: {made['html']}\n")


if __name__ == "__main__":
    sys.exit(main())
