"""The page of a run, ``report.md``: what is said, and in which order. Text only; figures come by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.records.run_folder import PICKS, ROLE_LABELS, Rows, batch_sizes, picked_by, roles_of
from kd.report.run.tables import LATER, comparison_rows, latency_warning, per_class_rows, verdict
from kd.report.text import batch_label, escape, is_finite, markdown_table, percent, standard_error
from kd.runtime.values import format_value


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2f}"


def plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(each)}" for key, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    return value if isinstance(value, str) else format_value(value)


DECISIVE = (  # settings that a reader asks for, beside those of the method
    "teacher.name",
    "teacher.pretrained",
    "teacher.seed",
    "teacher.ensemble",
    "attention.stages",
    "student.name",
    "student.width",
    "data.balance",
    "train.pick_by",
    "train.batch_size",
    "train.teacher.epochs",
    "train.student.epochs",
    "train.student.mixup",
    "train.teacher.lr",
    "train.student.lr",
)


ATTENTION = (
    "Where the teacher looks, on images that it gets right (✓) and wrong (✗): how much of each place its gates let "
    "through. 1 is all; a gate behind a stage, unlike one in front of it (Vision Eagle), may raise a place above 1. "
    "Each gate has a scale of its own: below it the range on these images, less the lowest and the highest percent "
    "(0.05 at least); above it the size of its map."
)


def _what_was_run(result: Mapping[str, Any]) -> str:
    data, machine = result["data"], result["machine"]
    facts: list[tuple[str, str]] = [(group, str(option)) for group, option in result["choices"].items()]
    facts.append(("seed", str(result["seed"])))
    settings = result.get("settings") or {}
    told = [key for key in sorted(settings) if key.startswith("kd.") and "_target_" not in key]
    facts += [
        (key, plain(settings[key])) for key in [*told, *DECISIVE] if settings.get(key) not in (None, [], LATER.get(key))
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
    spent = [(stage, s) for stage, s in result["seconds"].items() if is_finite(s)]
    if not spent:
        return ""
    return markdown_table([{stage: _minutes(s) for stage, s in spent}])


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
                "where from": "found in the store" if training["found"] else "trained in this run",
            }
        )
    return markdown_table(rows, left=("model", "where from"))


def page(result: Mapping[str, Any], figures: Mapping[str, str], remarks: Sequence[str]) -> str:
    """Return report.md.

    Args:
        figures: name -> alt text, of the figures that exist.

    Raises:
        ValueError: a figure that has no place on the page.
    """
    data, machine = result["data"], result["machine"]
    count = data["test"]

    def show(*wanted: str) -> list[str]:
        return [f"![{escape(figures[name])}](figures/{name}.png)" for name in wanted if name in figures]

    errors = "; ".join(
        f"{ROLE_LABELS[key]} ± {100 * standard_error(result[key]['accuracy'], count):.2f}" for key in roles_of(result)
    )
    words = ""
    if any(result[key].get("params_published") not in (None, result[key]["params"]) for key in roles_of(result)):
        words += " Live parameters are those that take part in a forward pass."
    if result.get("baseline"):
        words += " Gain recovered: (student − labels only) / (teacher − labels only), in accuracy; "
        words += "none where the teacher is no better than labels only."
    by = PICKS[picked_by(result["student"]["training"])]
    rows = comparison_rows(result)
    if any(row["metric"].startswith("balanced") for row in rows):
        words += " Balanced accuracy: of each class the share that is recognised, and the mean of these."
    parts = [
        f"# {escape(result['name'])}",
        verdict(result),
        *show("overview"),
        "## Teacher and student",
        markdown_table(rows, left=("metric", "better")),
        "↑ and ↓ say which way the student went, the last column which way is better. MB are 2^20 bytes, p50 and p95 "
        "the median and the 95th percentile. Agreement: share of the test images on which a model predicts what the "
        "teacher predicts." + words,
        *_assistants(result),
        f"One standard error of the accuracy at {count:,} test images, in points: {errors}.",
        "## What was run",
        _what_was_run(result),
        "All settings: [config.yaml](config.yaml).",
    ]
    if result.get("command"):
        parts += ["The same run again:", f"```sh\n{result['command']}\n```"]
    if data.get("notes"):
        parts += ["Notes on the data:", notes_on(data["notes"])]
    parts += ["Minutes by stage:", _time_table(result)] if _time_table(result) else []
    parts += [
        "## Training",
        f"After every epoch the validation split was evaluated, and the epoch with the best validation {by} is the "
        "one that was kept and tested. The test split was used once, at the end. Training accuracy is the mean over an "
        "epoch's augmented images while the weights still change, so it may lie below that on validation.",
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
        _disagreement(result),
        *show("disagreement"),
        *([ATTENTION] if "attention" in figures else []),
        *show("attention"),
        "## How latency was measured",
        f"On {escape(machine['device_name'])} ({machine['device']}) with {machine['threads']} threads: the network "
        "alone, as it would be deployed, in float32, in evaluation mode and without gradients, after a warm-up, on "
        "images that are already on the device. Times are for a whole batch "
        f"({', '.join(batch_label(batch) for batch in batch_sizes(result))}), the median (p50) and the 95th percentile (p95); "
        "throughput is that of the largest batch at its median.",
        "One thread: the same on a single core, which is the figure that carries from machine to machine. Time counts "
        "only while no thread of the run waited for a core that something else had.",
        *filter(None, [escape(latency_warning(result))]),
        *remarks,
    ]
    return place_figures("\n\n".join(parts) + "\n", figures)


def place_figures(text: str, figures: Iterable[str]) -> str:
    """Return the text of a page.

    Raises:
        ValueError: with the figures that it does not show: they would be saved, and nobody would know.
    """
    unseen = [name for name in figures if f"(figures/{name}.png)" not in text]
    if unseen:
        raise ValueError(f"no place on the page shows the figure {', '.join(unseen)}")
    return text


def notes_on(data: Mapping[str, Any]) -> str:
    """What was found when a data set was decoded; of a list, as of files that were left out, each on its own line."""
    lines = []
    for name, note in data.items():
        below = note if isinstance(note, list) else []
        lines.append(f"- {escape(name.replace('_', ' '))}:{'' if below else f' {escape(plain(note))}'}")
        lines += [f"  - {escape(each)}" for each in below]
    return "\n".join(lines)


def _assistants(result: Mapping[str, Any]) -> list[str]:
    """The networks between teacher and student, each taught by the one before."""
    found = result.get("assistants")
    if not found:
        return []
    told = [f"{percent(each['accuracy'])} % ({each['params'] / 1e6:.3g} M parameters)" for each in found]
    return [f"Between teacher and student, each taught by the one before it, test accuracy: {' → '.join(told)}."]


def _folded(table: str, classes: int) -> str:
    """A long table is folded away: a page shows its first line until somebody opens it."""
    if classes <= 20:
        return table
    return f"<details><summary>Scores of all {classes} classes</summary>\n\n{table}\n\n</details>"


def _disagreement(result: Mapping[str, Any]) -> str:
    share, count = result["comparison"]["agreement"], result["data"]["test"]
    differ = round((1 - share) * count)
    return f"Student and teacher disagree on {differ:,} of {count:,} test images ({100 * (1 - share):.2f} %)."
