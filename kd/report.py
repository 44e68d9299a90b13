"""The report of a run, made from its files alone: a table, figures, a page.

``python -m kd.report RUN_FOLDER`` makes ``report.md`` and ``figures/*.png`` again. The rows of a table are computed
once (``comparison_rows``, ``per_class_rows``) and shown by all: the page, the terminal, the tracker.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd.store import write_text

LABEL = {"teacher": "teacher", "student": "student", "baseline": "student, labels only"}  # in the order of columns
SAMPLE = 10  # pictures of the prediction grids
DISAGREEMENTS = 10  # pictures of the grid on which student and teacher disagree
FILES = {  # what the report reads: what it is for, and where it comes from
    "config.yaml": ("the settings of the run, which the report links to", "kd.run writes it before training"),
    "result.json": ("the numbers of every table", "kd.run writes it after the evaluation on the test split"),
    "metrics.jsonl": ("the training curves", "kd.run adds a line an epoch while it trains"),
    "predictions.npz": ("the logits on the test split", "kd.run writes it when it evaluates the models"),
    "pictures.npz": ("the pictures of the prediction grids", "kd.run writes it beside predictions.npz"),
}
BUSY = 2.0  # p95 / p50 beyond which a latency says more about the machine than about the network
Rows = list[dict[str, Any]]


class ReportError(Exception):
    """The report cannot be made; the message says which file is at fault and what would be right."""


def models(result: Mapping[str, Any]) -> list[str]:
    """Return the keys of the models that the result holds, in the order of columns."""
    return [key for key in LABEL if result.get(key)]


# --- numbers as people read them ---------------------------------------------------------------------------------


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def percent(value: float | None) -> str:
    return f"{100 * value:.2f}" if _known(value) else "–"


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, never in powers of ten: 0.0412, 4.12, 41.2, 412, 41,234."""
    if not _known(value):
        return "–"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def millions(count: float | None) -> str:
    if not _known(count):
        return "–"
    return f"{count / 1e6:,.2f}" if count >= 1e6 else significant(count / 1e6)


def _arrow(difference: float) -> str:
    return "↑ " if difference > 0 else "↓ " if difference < 0 else ""


def _points(difference: float | None) -> str:
    return f"{_arrow(difference)}{abs(100 * difference):.2f} points" if _known(difference) else ""


def _absolute(student: float | None, teacher: float | None, show: Callable[[float], str], unit: str) -> str:
    if not (_known(student) and _known(teacher)):
        return ""
    return f"{_arrow(student - teacher)}{show(abs(student - teacher))}{unit}"


def _ratio(value: float | None, less: str, more: str) -> str:
    """``value`` is teacher / student: 42.5 -> "↓ 42.5× smaller", 0.5 -> "↑ 2.00× larger"."""
    if not _known(value) or value <= 0:
        return ""
    return f"↓ {significant(value)}× {less}" if value >= 1 else f"↑ {significant(1 / value)}× {more}"


def _batches(result: Mapping[str, Any]) -> list[str]:
    """Return the measured batches, the smallest first: ["batch_1", "batch_64"]."""
    return sorted(result["teacher"]["latency_ms"], key=lambda name: int(name.split("_")[-1]))


def _spoken(batch: str) -> str:
    return batch.replace("_", " ")


# --- rows --------------------------------------------------------------------------------------------------------


def comparison_rows(result: Mapping[str, Any]) -> Rows:
    """Return the rows of the teacher-student table, cells as text.

    Columns: ``metric``, one a model, ``student vs teacher`` (the arrow says which way the student went) and
    ``better`` ("higher" or "lower"). Without a twin its column is left out.
    """
    keys, compared = models(result), result["comparison"]
    teacher, student = result["teacher"], result["student"]
    rows: Rows = []

    def add(metric: str, cell: Callable[[str], str], against: str, better: str) -> None:
        cells = {LABEL[key]: cell(key) for key in keys}
        rows.append({"metric": metric, **cells, "student vs teacher": against, "better": better})

    def parameters(key: str) -> str:
        live, published = result[key]["params"], result[key].get("params_published")
        if published in (None, live):
            return millions(live)
        return f"{millions(live)} M live; {millions(published)} M as published"

    def speed_up(batch: str) -> Callable[[str], str]:
        def cell(key: str) -> str:
            if key == "student":
                return f"{significant(compared['speed_up'][batch])}×"
            ours = result[key]["latency_ms"][batch]["p50"]
            return "1×" if key == "teacher" else f"{significant(teacher['latency_ms'][batch]['p50'] / ours)}×"

        return cell

    agreement = {"student": compared["agreement"], "baseline": compared.get("baseline_agreement")}
    difference = compared["accuracy_difference"]
    f1_difference = student["macro_f1"] - teacher["macro_f1"]
    add("accuracy (%)", lambda k: percent(result[k]["accuracy"]), _points(difference), "higher")
    add("macro F1 (%)", lambda k: percent(result[k]["macro_f1"]), _points(f1_difference), "higher")
    nll = _absolute(student["nll"], teacher["nll"], significant, "")
    add("NLL (nats)", lambda k: significant(result[k]["nll"]), nll, "lower")
    add("ECE, 15 bins (%)", lambda k: percent(result[k]["ece"]), _points(student["ece"] - teacher["ece"]), "lower")
    add("agreement with the teacher (%)", lambda k: percent(agreement.get(k)), "", "higher")
    if "baseline" in keys:
        # With a teacher that is no better than the twin there is nothing to recover, and the quotient misleads.
        recovered = compared["gain_recovered"] if teacher["accuracy"] > result["baseline"]["accuracy"] else None
        add("gain recovered (%)", lambda k: percent(recovered) if k == "student" else "–", "", "higher")
    add(
        "model size (MB)",
        lambda k: significant(result[k]["size_mb"]),
        _ratio(compared["size_ratio"], "smaller", "larger"),
        "lower",
    )
    add("parameters (M)", parameters, _ratio(compared["params_ratio"], "fewer", "more"), "lower")
    reduction = {key: 1 - result[key]["params"] / teacher["params"] for key in keys if key != "teacher"}
    reduction["student"] = compared["params_reduction"]
    add("parameter reduction (%)", lambda k: percent(reduction.get(k)), "", "higher")
    add("MACs (M)", lambda k: millions(result[k]["macs"]), _ratio(compared["macs_ratio"], "fewer", "more"), "lower")
    for batch in _batches(result):
        for quantile in ("p50", "p95"):
            times = {key: result[key]["latency_ms"][batch][quantile] for key in keys}
            change = _absolute(times["student"], times["teacher"], significant, " ms")
            add(f"latency {_spoken(batch)}, {quantile} (ms)", lambda k, t=times: significant(t[k]), change, "lower")
        add(f"speed-up {_spoken(batch)}", speed_up(batch), "", "higher")
    ratio = student["throughput"] / teacher["throughput"]
    against = f"↑ {significant(ratio)}×" if ratio >= 1 else f"↓ {significant(ratio)}×"
    add("throughput (images/s)", lambda k: significant(result[k]["throughput"]), against, "higher")
    return rows


def per_class_rows(result: Mapping[str, Any]) -> Rows:
    """Return one row a class and model: scores in percent (MCC in [-1, 1]), None where a score is undefined.

    A class without a test picture has no recall, F1 or MCC.
    """
    rows: Rows = []
    for name in result["data"]["classes"]:
        for key in models(result):
            scores = result[key]["per_class"][name]

            def score(metric: str, scale: float = 100.0, scores: Mapping[str, Any] = scores) -> float | None:
                undefined = not scores["support"] and metric in ("recall", "f1", "mcc")
                return scale * scores[metric] if _known(scores[metric]) and not undefined else None

            rows.append(
                {
                    "class": name,
                    "model": LABEL[key],
                    "precision (%)": score("precision"),
                    "recall (%)": score("recall"),
                    "specificity (%)": score("specificity"),
                    "F1 (%)": score("f1"),
                    "MCC": score("mcc", 1.0),
                    "support": int(scores["support"]),
                }
            )
    return rows


def standard_error(accuracy: float, count: int) -> float:
    """Return the binomial standard error of an accuracy in [0, 1] that ``count`` pictures gave."""
    return math.sqrt(accuracy * (1 - accuracy) / count) if count else math.nan


def verdict(result: Mapping[str, Any]) -> str:
    """Say in a sentence or two whether distillation gained more than chance would."""
    if not result.get("baseline"):
        return "The student was not trained on labels alone, so this run cannot say what distillation gained."
    compared, count = result["comparison"], result["data"]["test"]
    gain, p = compared["accuracy_gain"], compared["mcnemar_p"]
    if not (_known(gain) and _known(p)):
        return "The result holds no comparison with the student that was trained on labels alone."
    if gain == 0:
        head = (
            f"On these {count:,} pictures distillation neither gained nor lost against the same student on labels only"
        )
    else:
        did = "gained" if gain > 0 else "lost"
        head = f"Distillation {did} {abs(100 * gain):.2f} points against the same student on labels only"
    chance = "p < 0.0001" if p < 0.0001 else f"p = {significant(p)}"
    test = f"McNemar's exact test on the same {count:,} pictures: {chance}"
    if p < 0.05:
        tail = "more than the choice of test pictures explains (p < 0.05)"
    else:
        tail = "not told apart from noise (p ≥ 0.05)"
    return f"{head}: {tail}. {test}. This is one seed: how much another seed would change is not in that number."


def busy(result: Mapping[str, Any]) -> str:
    """Return a warning when latencies scatter so much that something else must have used the machine, else ""."""
    spread = [
        (times["p95"] / times["p50"], f"{LABEL[key]}, {_spoken(batch)}")
        for key in models(result)
        for batch, times in result[key]["latency_ms"].items()
        if times["p50"] > 0
    ]
    worst, where = max(spread, default=(1.0, ""))
    if worst <= BUSY:
        return ""
    return (
        f"The latencies scatter: p95 is {significant(worst, 2)} times p50 ({where}). Something else probably used the "
        "machine, so take latency, speed-up and throughput with caution, and measure again when it is idle."
    )


# --- text --------------------------------------------------------------------------------------------------------


def terminal_table(result: Mapping[str, Any]) -> str:
    """Return what is printed at the end of a run: title, table, the sentence on noise."""
    rows = comparison_rows(result)
    columns = list(rows[0])
    # Cells of several lines keep the table at 100 columns: wrapped headings, "12.31 M live; 23.83 M as published".
    table = [[textwrap.wrap(column, 12) for column in columns]]
    table += [[row[column].split("; ") for column in columns] for row in rows]
    widths = [max(len(part) for line in table for part in line[k]) for k in range(len(columns))]
    lines = ["\n".join(_terminal_line(line, widths)) for line in table]
    width = sum(widths) + 2 * (len(widths) - 1)
    rule = "─" * width
    title = [
        result["name"],
        *textwrap.wrap(f"{_choices(result)}, seed {result['seed']}; {result['data']['test']:,} test pictures", width),
    ]
    return "\n".join(
        [
            *title,
            rule,
            lines[0],
            rule,
            *lines[1:],
            rule,
            *textwrap.wrap(verdict(result), width),
            *textwrap.wrap(busy(result), width),
        ]
    )


def _terminal_line(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of one row; first and last column to the left, numbers to the right."""
    for level in range(max(len(cell) for cell in cells)):
        parts = [cell[level] if level < len(cell) else "" for cell in cells]
        aligned = [part.rjust(width) for part, width in zip(parts, widths, strict=True)]
        aligned[0], aligned[-1] = parts[0].ljust(widths[0]), parts[-1]
        yield "  ".join(aligned).rstrip()


def _choices(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{group}={option}" for group, option in result["choices"].items())


def _escape(value: Any) -> str:
    """Text that stays inside its markdown cell and means nothing else there."""
    text = " ".join(str(value).split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text


def markdown_table(rows: Rows, left: Sequence[str] = ()) -> str:
    """Return ``rows`` as a markdown table; columns named in ``left`` are aligned to the left, others to the right."""
    columns = list(rows[0])
    lines = [columns, [":--" if column in left else "--:" for column in columns]]
    lines += [[_cell(column, row[column]) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if column == "MCC" else f"{value:.2f}"
    return _escape(value)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2f}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(each)}" for key, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)


def _what_was_run(result: Mapping[str, Any]) -> str:
    data, machine = result["data"], result["machine"]
    facts: list[tuple[str, str]] = [(group, str(option)) for group, option in result["choices"].items()]
    facts.append(("seed", str(result["seed"])))
    settings = result.get("settings") or {}
    facts += [
        (key, _plain(settings[key])) for key in sorted(settings) if key.startswith("kd.") and "_target_" not in key
    ]
    facts += [
        (
            "data set",
            f"{data['name']}, {len(data['classes'])} classes, {data['image_size']}×{data['image_size']} pixels",
        ),
        ("pictures", f"{data['train']:,} to train, {data['val']:,} to validate, {data['test']:,} to test"),
        ("machine", f"{machine['device_name']} ({machine['device']}), {machine['threads']} threads"),
        ("precision", str(machine["precision"])),
        ("software", f"torch {machine['torch']}, Python {machine['python']}"),
        ("key of the run", str(result["key"])),
    ]
    return markdown_table([{"setting": name, "value": value} for name, value in facts], left=("setting", "value"))


def _time_table(result: Mapping[str, Any]) -> str:
    spent = [(stage, s) for stage, s in result["seconds"].items() if _known(s)]
    if not spent:
        return ""
    return markdown_table([{stage: _minutes(s) for stage, s in spent}])


def _epochs(result: Mapping[str, Any]) -> str:
    rows: Rows = []
    for key in models(result):
        training = result[key]["training"]
        rows.append(
            {
                "model": LABEL[key],
                "epochs": training["epochs"],
                "best epoch": training["best_epoch"],
                "validation accuracy, best (%)": percent(training["best_val_accuracy"]),
                "validation accuracy, last (%)": percent(training["last_val_accuracy"]),
                "minutes": _minutes(training["seconds"]),
                "where from": "found in the store" if training["found"] else "trained in this run",
            }
        )
    return markdown_table(rows, left=("model", "where from"))


def _page(result: Mapping[str, Any], figures: Mapping[str, str], remarks: Sequence[str]) -> str:
    """Return report.md. ``figures``: name -> alt text, of the figures that exist."""
    data, machine = result["data"], result["machine"]
    count = data["test"]

    def show(*wanted: str) -> list[str]:
        return [f"![{_escape(figures[name])}](figures/{name}.png)" for name in wanted if name in figures]

    errors = "; ".join(
        f"{LABEL[key]} ± {100 * standard_error(result[key]['accuracy'], count):.2f}" for key in models(result)
    )
    words = ""
    if any(result[key].get("params_published") not in (None, result[key]["params"]) for key in models(result)):
        words += " Live parameters are those that take part in a forward pass."
    if result.get("baseline"):
        words += " Gain recovered: (student − labels only) / (teacher − labels only), in accuracy; "
        words += "none where the teacher is no better than labels only."
    parts = [
        f"# {_escape(result['name'])}",
        verdict(result),
        *show("overview"),
        "## Teacher and student",
        markdown_table(comparison_rows(result), left=("metric", "better")),
        "↑ and ↓ say which way the student went, the last column which way is better. MB are 2^20 bytes, p50 and p95 "
        "the median and the 95th percentile. Agreement: share of the test pictures on which a model predicts what the "
        "teacher predicts." + words,
        f"One standard error of the accuracy at {count:,} test pictures, in points: {errors}.",
        "## What was run",
        _what_was_run(result),
        "All settings: [config.yaml](config.yaml).",
    ]
    if result.get("command"):
        parts += ["The same run again:", f"```sh\n{result['command']}\n```"]
    if data.get("notes"):
        notes = "\n".join(f"- {_escape(name)}: {_escape(_plain(note))}" for name, note in data["notes"].items())
        parts += ["Notes on the data:", notes]
    parts += ["Minutes by stage:", _time_table(result)] if _time_table(result) else []
    parts += [
        "## Training",
        "After every epoch the validation split was evaluated, and the epoch with the best validation accuracy is the "
        "one that was kept and tested. The test split was used once, at the end. Training accuracy is the mean over an "
        "epoch's augmented pictures while the weights still change, so it may lie below that on validation.",
        _epochs(result),
        *show("training"),
        "## Classes",
        *show("per_class_f1"),
        _folded(markdown_table(per_class_rows(result), left=("class", "model")), len(data["classes"])),
        *show("confusion_teacher", "confusion_student", "confusion_baseline", "confusion_difference"),
        "## Confidence",
        *show("reliability"),
        "## Pictures",
        *show("predictions_teacher", "predictions_student", "predictions_baseline"),
        _disagreement(result),
        *show("disagreement"),
        "## How latency was measured",
        f"On {_escape(machine['device_name'])} ({machine['device']}) with {machine['threads']} threads: the network "
        "alone, as it would be deployed, in float32, in evaluation mode and without gradients, after a warm-up, on "
        "pictures that are already on the device. Times are for a whole batch "
        f"({', '.join(_spoken(batch) for batch in _batches(result))}), the median (p50) and the 95th percentile (p95); "
        "throughput is that of the largest batch at its median.",
        *filter(None, [busy(result)]),
        *remarks,
    ]
    return "\n\n".join(parts) + "\n"


def _folded(table: str, classes: int) -> str:
    """A long table is folded away: a page shows its first line until somebody opens it."""
    if classes <= 20:
        return table
    return f"<details><summary>Scores of all {classes} classes</summary>\n\n{table}\n\n</details>"


def _disagreement(result: Mapping[str, Any]) -> str:
    share, count = result["comparison"]["agreement"], result["data"]["test"]
    differ = round((1 - share) * count)
    return f"Student and teacher disagree on {differ:,} of {count:,} test pictures ({100 * (1 - share):.2f} %)."


# --- files -------------------------------------------------------------------------------------------------------


def choose_pictures(target: np.ndarray, logits_by_model: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    """Return the rows of predictions.npz whose pictures a report needs: int64, sorted, each once.

    A sample for the prediction grids, and some on which student and teacher disagree; both drawn by ``seed``.

    Args:
        target: [N]. logits_by_model: "teacher" and "student" -> [N, K].
    """
    sample, differ, _ = _draw(target, logits_by_model, seed)
    return np.unique(np.r_[sample, differ]).astype(np.int64)


def _draw(target: np.ndarray, logits: Mapping[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the rows of the sample, rows on which student and teacher disagree, and how many such rows there are."""
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(target))[:SAMPLE])
    differ = np.flatnonzero(logits["teacher"].argmax(1) != logits["student"].argmax(1))
    return sample, np.sort(random.permutation(differ)[:DISAGREEMENTS]), len(differ)


def _read(folder: Path, name: str, load: Callable[[Path], Any]) -> Any:
    path = folder / name
    purpose, origin = FILES[name]
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
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder. Give the folder of a run, the one that holds result.json.")
    result = _read(folder, "result.json", _load_json)
    _read(folder, "config.yaml", lambda path: path.read_text(encoding="utf-8"))
    metrics = _read(folder, "metrics.jsonl", _load_lines)
    arrays = _read(folder, "predictions.npz", _load_arrays)
    pictures = _read(folder, "pictures.npz", _load_arrays)
    try:
        _page(result, {}, [])  # a missing entry is found here, before seconds go into figures
        _check_predictions(folder, result, arrays)
        return _write(folder, result, metrics, arrays, pictures)
    except KeyError as error:
        raise ReportError(f"{folder}: the entry {error} is missing in result.json or in an array file.") from error


def _write(folder: Path, result: dict, metrics: Rows, arrays: dict, pictures: dict) -> dict[str, Path]:
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
            "latency": result[key]["latency_ms"][_batches(result)[0]]["p50"],
        }
        for key in keys
    }
    made["overview"] = (
        figures.overview(points, _spoken(_batches(result)[0])),
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

    (folder / "figures").mkdir(exist_ok=True)
    paths = {}
    for name, (figure, _) in made.items():
        paths[name] = folder / "figures" / f"{name}.png"
        figures.save(figure, paths[name], few_colours=name.startswith(("predictions", "disagreement")))
    remarks = []
    undrawn = [f"#{k} {_escape(name)}" for k, name in enumerate(classes) if not figures.can_draw(name)]
    if undrawn:
        remarks.append("No font of this machine has these names, so figures show their numbers: " + ", ".join(undrawn))
    paths["report"] = folder / "report.md"
    write_text(paths["report"], _page(result, {name: alt for name, (_, alt) in made.items()}, remarks))
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kd.report",
        description="Make report.md and figures/*.png of a run again, from the files in its folder alone, and print "
        "the table. Reads " + ", ".join(FILES) + ".",
        epilog="Exit code 2: a file is missing or damaged; the message says which one.",
    )
    parser.add_argument("folder", nargs="+", type=Path, metavar="RUN_FOLDER", help="the folder that holds result.json")
    folders = parser.parse_args(arguments).folder
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets "?" for an arrow, not a traceback
        stream.reconfigure(errors="replace")
    failed = False
    for folder in folders:
        try:
            paths = write_report(folder)
            print(terminal_table(_read(folder, "result.json", _load_json)))
            print(f"Report: {paths['report']} with {len(paths) - 1} figures\n")
        except ReportError as error:
            failed = True
            print(f"kd.report: {error}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
