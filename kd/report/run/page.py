"""``report.md`` of a run: its text and their order. Figures are referred to by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.diagnose.verdict import Diagnosis
from kd.records.run_folder import PICKS, ROLE_LABELS, Rows, batch_sizes, picked_by, roles_of
from kd.report.run.diagnosis import section
from kd.report.run.tables import (
    DEFAULTS_OF_OLD_RESULTS,
    comparison_rows,
    latency_warning,
    per_class_rows,
    reference_of,
    verdict,
)
from kd.report.text import batch_label, escape, is_finite, markdown_table, percent, standard_error
from kd.runtime.values import format_value


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2f}"


def plain(value: Any) -> str:
    """Format the value of a setting or a note; mappings and lists on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(each)}" for key, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    return value if isinstance(value, str) else format_value(value)


DECISIVE = (  # settings shown in report.md, besides those of the method
    "teacher.name",
    "teacher.pretrained",
    "teacher.seed",
    "teacher.ensemble",
    "attention.stages",
    "student.name",
    "student.width",
    "data.balance",
    "data.labelled",
    "train.pick_by",
    "train.batch_size",
    "train.teacher.epochs",
    "train.student.epochs",
    "train.student.mixup",
    "train.student.cutmix",
    "train.teacher.lr",
    "train.student.lr",
)


LAUNCHES = (
    "On an accelerator, at batch 1, a forward pass mostly takes as long as its operations take to launch one by one: "
    "the number compares networks by their operations. Compiled, or as a CUDA graph, all would be faster."
)
ATTENTION = (
    "Where the teacher looks, on images that it gets right (✓) and wrong (✗): the share of each position that its "
    "gates let through. 1 is everything. A gate after a stage may raise a position above 1, one before a stage (Vision "
    "Eagle) may not. Each gate has its own colour scale. The numbers below it are its range on these images, without "
    "the lowest and the highest percent and at least 0.05 wide. The size above it is that of its map."
)


def _what_was_run(result: Mapping[str, Any]) -> str:
    data, machine = result["data"], result["machine"]
    facts: list[tuple[str, str]] = [(group, str(option)) for group, option in result["choices"].items()]
    facts.append(("seed", str(result["seed"])))
    settings = result.get("settings") or {}
    unused = () if result.get("teacher") else ("teacher.", "attention.", "train.teacher.")
    of_method = [key for key in sorted(settings) if key.startswith("kd.") and "_target_" not in key]
    facts += [
        (key, plain(settings[key]))
        for key in [*of_method, *DECISIVE]
        if not key.startswith(unused) and settings.get(key) not in (None, [], DEFAULTS_OF_OLD_RESULTS.get(key))
    ]
    facts += [
        (
            "data set",
            f"{data['name']}, {len(data['classes'])} classes, {data['image_size']}×{data['image_size']} pixels",
        ),
        ("images", f"{data['train']:,} to train, {data['val']:,} to validate, {data['test']:,} to test"),
        ("machine", f"{machine['device_name']} ({machine['device']}), {machine['threads']} threads"),
        ("precision", str(machine["precision"])),
        ("software", f"torch {machine['torch']}, Python {machine['python']}"),
        ("key of the run", str(result["key"])),
    ]
    return markdown_table([{"setting": name, "value": value} for name, value in facts], left=("setting", "value"))


def _time_table(result: Mapping[str, Any]) -> str:
    minutes = {step: _minutes(seconds) for step, seconds in result["seconds"].items() if is_finite(seconds)}
    return markdown_table([minutes]) if minutes else ""


def _epochs(result: Mapping[str, Any]) -> str:
    rows: Rows = []
    trainings = {key: result[key]["training"] for key in roles_of(result)}
    others = dict.fromkeys(picked_by(training) for training in trainings.values())
    others.pop("accuracy", None)
    for key, training in trainings.items():
        rows.append(
            {
                "model": ROLE_LABELS[key],
                "epochs": training["epochs"],
                "best epoch": training["best_epoch"],
                "validation accuracy, best (%)": percent(training["best_val_accuracy"]),
                "validation accuracy, last (%)": percent(training["last_val_accuracy"]),
                **{
                    f"validation {PICKS[name]}, {when} (%)": percent(training.get(f"{when}_val_{name}"))
                    for name in others
                    for when in ("best", "last")
                },
                "minutes": _minutes(training["seconds"]),
                "where from": "reused from the store" if training["found"] else "trained in this run",
            }
        )
    return markdown_table(rows, left=("model", "where from"))


def page(
    result: Mapping[str, Any],
    figures: Mapping[str, str],
    remarks: Sequence[str],
    diagnosis: Diagnosis | None = None,
) -> str:
    """Return the text of ``report.md``.

    Args:
        figures: name -> alt text of the figures that exist. remarks: further sentences, for the end.
        diagnosis: what limits the run.

    Raises:
        ValueError: a figure has no place on the page.
    """
    data, machine = result["data"], result["machine"]
    count = data["test"]

    def show(*wanted: str) -> list[str]:
        return [f"![{escape(figures[name])}](figures/{name}.png)" for name in wanted if name in figures]

    errors = "; ".join(
        f"{ROLE_LABELS[key]} ± {100 * standard_error(result[key]['accuracy'], count):.2f}" for key in roles_of(result)
    )
    taught, reference = bool(result.get("teacher")), reference_of(result)
    arrows = f"↑ and ↓ show whether the student's number is higher or lower than the {reference}'s, the last"
    notes = [
        f"{arrows if reference else 'The last'} column which is better. MB are 2^20 bytes, p50 and p95 the median and "
        "the 95th percentile."
    ]
    if taught:
        notes.append("Agreement: share of the test images on which a model predicts the same class as the teacher.")
    if result.get("baseline"):
        notes.insert(
            0,
            "Baseline (labels only): the same student, seed, schedule and views, trained without a teacher."
            if taught
            else "Baseline (labels only): the same student, seed, schedule and views, trained without the method.",
        )
    if any(result[key].get("params_published") not in (None, result[key]["params"]) for key in roles_of(result)):
        notes.append("Live parameters are those that take part in a forward pass.")
    if taught and result.get("baseline"):
        notes.append(
            "Gain recovered: (student − baseline) / (teacher − baseline), in accuracy; none if the teacher is no "
            "better than the baseline."
        )
    by = PICKS[picked_by(result["student"]["training"])]
    rows = comparison_rows(result)
    if any(row["metric"].startswith("balanced") for row in rows):
        notes.append("Balanced accuracy: the mean over classes of the share that is recognised.")
    parts = [
        f"# {escape(result['name'])}",
        verdict(result),
        *show("overview"),
        "## Teacher and student" if taught else "## Student and baseline" if reference else "## Student",
        markdown_table(rows, left=("metric", "better")),
        " ".join(notes),
        *_assistants(result),
        f"One standard error of the accuracy at {count:,} test images, in points: {errors}.",
        *(section(diagnosis, show("diagnosis", "not_won")) if diagnosis else []),
        "## What was run",
        _what_was_run(result),
        "All settings: [config.yaml](config.yaml).",
    ]
    if result.get("command"):
        parts += ["This command repeats the run:", f"```sh\n{result['command']}\n```"]
    if data.get("notes"):
        parts += ["Notes on the data:", notes_on(data["notes"])]
    parts += ["Minutes by step:", _time_table(result)] if _time_table(result) else []
    parts += [
        "## Training",
        f"Every epoch ends with an evaluation on the validation split; the epoch with the best validation {by} is the "
        "one that was kept and tested. The test split was used once, at the end. Training accuracy is the mean over an "
        "epoch's augmented images while the weights still change, so it may be lower than validation accuracy.",
        _epochs(result),
        *show("training"),
        "## Classes",
        *show("per_class_f1"),
        _folded(markdown_table(per_class_rows(result), left=("class", "model")), len(data["classes"])),
        *show("confusion_teacher", "confusion_student", "confusion_baseline", "confusion_difference"),
        "## Confidence",
        *show("reliability"),
        "## Images",
        *show("predictions_teacher", "predictions_student", "predictions_baseline"),
        *([_disagreement(result)] if taught else []),
        *show("disagreement"),
        *([ATTENTION] if "attention" in figures else []),
        *show("attention"),
        "## How latency was measured",
        f"On {escape(machine['device_name'])} ({machine['device']}) with {machine['threads']} threads: the network "
        "alone, as it would be deployed, in float32, in evaluation mode and without gradients, after a warm-up, on "
        "images that are already on the device. Times are for a whole batch "
        f"({', '.join(map(batch_label, batch_sizes(result)))}): the median (p50) and the 95th percentile (p95). "
        "Throughput is that of the largest batch at its median.",
        "One thread: the same on a single core, the number that compares best between machines. Time counts only while "
        "no thread of the run waited for a core that another process used.",
        *([LAUNCHES] if machine["device"] != "cpu" else []),
        *filter(None, [escape(latency_warning(result))]),
        *remarks,
    ]
    return place_figures("\n\n".join(parts) + "\n", figures)


def place_figures(text: str, figures: Iterable[str]) -> str:
    """Return ``text`` unchanged if it shows all figures.

    Raises:
        ValueError: it does not show a figure, which would be saved without a reader noticing.
    """
    unseen = [name for name in figures if f"(figures/{name}.png)" not in text]
    if unseen:
        raise ValueError(f"no place on the page shows the figure {', '.join(unseen)}")
    return text


def notes_on(data: Mapping[str, Any]) -> str:
    """Return the notes on a data set as a markdown list; a note that is a list itself has one item per line."""
    lines = []
    for name, note in data.items():
        below = note if isinstance(note, list) else []
        lines.append(f"- {escape(name.replace('_', ' '))}:{'' if below else f' {escape(plain(note))}'}")
        lines += [f"  - {escape(each)}" for each in below]
    return "\n".join(lines)


def _assistants(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence on the assistants, the networks between teacher and student; [] without any."""
    assistants = result.get("assistants")
    if not assistants:
        return []
    scores = [f"{percent(each['accuracy'])} % ({each['params'] / 1e6:.3g} M parameters)" for each in assistants]
    return [f"Test accuracy of the assistants, each trained by the network before it: {' → '.join(scores)}."]


def _folded(table: str, classes: int) -> str:
    """Fold a long table away until the reader opens it."""
    if classes <= 20:
        return table
    return f"<details><summary>Scores of all {classes} classes</summary>\n\n{table}\n\n</details>"


def _disagreement(result: Mapping[str, Any]) -> str:
    share, count = result["comparison"]["agreement"], result["data"]["test"]
    differ = round((1 - share) * count)
    return f"Student and teacher disagree on {differ:,} of {count:,} test images ({100 * (1 - share):.2f} %)."
