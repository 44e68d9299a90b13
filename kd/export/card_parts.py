"""The paragraphs of a model card, from ``result.json`` and ``report.json``; none claims what these do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.data.files import printable
from kd.evaluation.metrics import most_confused
from kd.export.card_header import data_set_name
from kd.inference.assemble import find_target
from kd.inference.model import Model
from kd.report.run.page import plain
from kd.report.run.tables import comparison_rows, latency_warning, verdict
from kd.report.text import escape, markdown_table, percent, significant
from kd.runtime.text import first_few
from kd.tracking.redact import redact

FEW = 12  # classes; a matrix of more is too wide for a table
MANY = 100  # classes; a figure of more shows nothing
NAMED = 30  # classes in the first paragraph
PAIRS = 10  # classes mixed up, in place of a matrix
BUSY = "\\* timed while other processes used the machine, so the number is not valid."
SETTINGS = (  # of the run, besides those of the method
    *("teacher.name", "teacher.pretrained", "teacher.checkpoint", "teacher.image_size", "teacher.ensemble"),
    *("teacher.seed", "attention.stages", "student.name", "student.width", "student.depth", "student.pretrained"),
    *("student.stem", "data.balance", "train.batch_size", "train.student.epochs", "train.student.optimizer"),
    *("train.student.lr", "train.student.weight_decay", "train.student.warmup", "train.student.label_smoothing"),
    *("train.student.mixup", "train.student.cutmix", "train.student.ema", "train.pick_by"),
)
NOTHING = (None, "none", [], 0, False, "")  # a setting with this value did nothing


def introduction(model: Model, result: Mapping[str, Any] | None) -> list[str]:
    """Say what the network is, for whom it was trained and on what."""
    description, count = model.description, len(model.classes)
    classes = first_few([f"**{escape(name)}**" for name in model.classes], NAMED)
    side = description.image_size
    what = f"It sorts images of {side} × {side} pixels into {count:,} classes: {classes}."
    if count == 1:
        what = f"It takes images of {side} × {side} pixels and has one class, {classes}: its answer is always that."
    more = " `config.json` names all of them." if count > NAMED else ""
    if result is None:
        params = sum(each.numel() for each in model.network.parameters())
        return [
            f"An image classifier with {params:,} parameters, trained with kd. {what}{more}",
            "It was exported from its file alone: the numbers of its training and its test are not known here.",
        ]
    chosen, name = result["choices"], dataset_on_hub(result) or data_set_name(result["data"]["name"])
    data_set = f"the data set {escape(name)}" if name else "a data set without a name"
    return [
        f"An image classifier, {_network(result, 'student')}. {what}{more}",
        f"It was trained by {code(chosen['kd'])} on {data_set}, without a teacher."
        if not has_teacher(result)
        else f"It is a student: on {data_set} it was distilled by {code(chosen['kd'])} from a teacher, "
        f"{_network(result, 'teacher')}.",
    ]


def has_teacher(result: Mapping[str, Any]) -> bool:
    """Whether a teacher taught the student; older runs have one that no term read."""
    return bool(result.get("teacher")) and reads_teacher(result.get("settings") or {})


def reads_teacher(settings: Mapping[str, Any]) -> bool:
    """Whether a term of the run's method reads a teacher; code outside kd is taken to do so.

    Args:
        settings: of ``result.json``, by their dotted names.
    """
    for name in (each for each in settings if each.startswith("kd.terms.") and each.endswith("._target_")):
        try:
            if getattr(find_target(settings[name]), "needs", None) != frozenset():
                return True
        except ValueError:
            return True
    return False


def _network(result: Mapping[str, Any], role: str) -> str:
    """Return the option of a network, of timm's its name, and its parameters."""
    option, name = result["choices"][role], (result.get("settings") or {}).get(f"{role}.name")
    named = f"{option} {name}" if option == "timm" and name else option
    return f"{code(named)} with {result[role]['params']:,} parameters"


def code(text: str) -> str:
    """Return text as markdown shows code: as it is, on one line."""
    return f"`{printable(text).replace('`', chr(39))}`"


def distillation(result: Mapping[str, Any] | None) -> list[str]:
    """Return the method and the settings that a reader needs to judge it."""
    if result is None:
        return []
    chosen, settings, data = result["choices"], redact(result.get("settings") or {}), result["data"]
    facts, taught = [("method", chosen["kd"])], has_teacher(result)
    if taught:
        facts += [("teacher", chosen["teacher"]), ("attention of the teacher", chosen["attention"])]
    own = [name for name in sorted(settings) if name.startswith("kd.") and _is_of_method(name)]
    rest = [name for name in SETTINGS if name in settings and settings[name] not in NOTHING]
    rest = [name for name in rest if taught or not name.startswith(("teacher.", "attention."))]
    facts += [(name, plain(settings[name])) for name in (*own, *rest)]
    training = result["student"]["training"]
    facts += [
        ("augmentation", chosen.get("augment", "none")),
        ("seed", result["seed"]),
        ("images", f"{data['train']:,} to train, {data['val']:,} to validate, {data['test']:,} to test"),
        ("epoch kept", f"{training['best_epoch']} of {training['epochs']}, picked by validation"),
        ("precision of training", result["machine"]["precision"]),
        ("key of the run", result["key"]),
    ]
    rows = [{"setting": name, "value": str(value)} for name, value in facts if value not in (None, "none")]
    return [markdown_table(rows, left=("setting", "value"))]


def _is_of_method(name: str) -> bool:
    return "_target_" not in name and (name.count(".") == 1 or name.startswith("kd.weights."))


def results(result: Mapping[str, Any] | None) -> list[str]:
    """Return the table of teacher, student and baseline, and what it says."""
    if result is None:
        return []
    machine = result["machine"]
    return [
        f"On {result['data']['test']:,} test images that no training saw. The baseline is the same network, trained on "
        f"labels alone with the same seed. Times are torch's, on {escape(machine['device_name'])} "
        f"({machine['threads']} threads).",
        markdown_table(comparison_rows(result), left=("metric",)),
        BUSY if latency_warning(result) else "",
        escape(verdict(result)),
    ]


def files(report: Mapping[str, Any]) -> list[str]:
    """Return the table of the exported files beside torch itself."""
    rows = [_file_row("(torch)", "in memory", "torch", None, report.get("torch"))]
    rows += [_file_row("(torch, folded)", "batch norms folded", "torch", None, report.get("folded"))]
    listed = report.get("files") or []
    if not listed:
        return []
    rows += [_file_row(each.get("file"), each.get("format"), each.get("runtime"), ships(each), each) for each in listed]
    rows = [row for row in rows if row]
    return [
        f"{tested_on(report)} Sizes are in KB of 1,024 bytes, times are medians in milliseconds with all threads.",
        markdown_table(rows, left=("file", "format", "runtime", "ships")),
        BUSY if any("*" in row[batch] for row in rows for batch in ("batch 1 (ms)", "batch 64 (ms)")) else "",
    ]


def tested_on(report: Mapping[str, Any]) -> str:
    """Say which images the scores of the files are from."""
    count, own = report.get("test_images"), report.get("own_images")
    if not count:
        return "No test images were at hand: agreement with torch is that on random images."
    if own:
        return f"Accuracy, agreement with torch and NLL are those of all {count:,} test images."
    where = escape(report.get("tested_on") or "another source")
    return (
        f"Accuracy, agreement with torch and NLL are those of {count:,} images of {where}, which are not the test "
        "images of the run."
    )


def _file_row(
    file: str | None, form: str | None, runtime: str | None, ships: str | None, entry: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    if not entry:
        return None
    size = entry.get("size_bytes")
    return {
        "file": file,
        "format": form,
        "runtime": runtime,
        "size (KB)": significant(size / 1024) if size else "–",
        "accuracy (%)": percent(entry.get("accuracy")),
        "agreement (%)": percent(entry.get("agreement")),
        "NLL": significant(entry.get("nll")),
        "batch 1 (ms)": _milliseconds(entry, "batch_1"),
        "batch 64 (ms)": _milliseconds(entry, "batch_64"),
        "ships": ships or "–",
    }


def _milliseconds(entry: Mapping[str, Any], batch: str) -> str:
    times = ((entry.get("latency_ms") or {}).get("all_threads") or {}).get(batch) or {}
    return significant(times.get("p50")) + ("" if times.get("calm", True) else "*")


def ships(entry: Mapping[str, Any]) -> str:
    """Say whether a file may ship, and why not."""
    word = {True: "yes", False: "no"}.get(entry.get("ships"), "not tested")
    reason = entry.get("reason")
    return f"{word}: {redact(reason)}" if reason and word != "yes" else word


def confusion(result: Mapping[str, Any] | None, figure: str | None) -> list[str]:
    """Return the confusion matrix as a table or a figure; of many classes the pairs that it mixes up most.

    Args:
        figure: the file of the run's own figure, if it lies beside the card.
    """
    if result is None or len(result["data"]["classes"]) < 2:
        return []
    classes, counts = result["data"]["classes"], np.array(result["student"]["confusion"])
    if len(classes) <= FEW:
        names = list(map(escape, classes))
        lines = [["true \\ predicted", *names], [":--", *["--:"] * len(names)]]
        lines += [[name, *map(str, row)] for name, row in zip(names, counts.tolist(), strict=True)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return ["Test images of each true class, by the class that the student names.", table]
    shown = [f"![Confusion matrix of the student, percent of each true class]({figure})"] if figure else []
    pairs = [
        {"true": classes[true], "named": classes[named], "images": images, "of": total}
        for true, named, images, total in most_confused(counts, PAIRS)
    ]
    if not pairs:
        return shown
    return [
        *shown,
        ("" if figure else f"A matrix of {len(classes):,} classes is not printed. ")
        + "The classes that it mixes up most, with the number of test images:",
        markdown_table(pairs, left=("true", "named")),
    ]


def scores(result: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Return accuracy and macro F1 of the student on the test split of its data set; nothing where they are unknown.

    Those in a report are no substitute: ``--images`` may have tested on any folder.
    """
    if result is None:
        return {}
    return {"accuracy": result["student"]["accuracy"], "f1": result["student"].get("macro_f1")}


def dataset_on_hub(result: Mapping[str, Any] | None) -> str | None:
    """Return the name of the data set on the hub, for a run that read it from there."""
    if result is None or result["choices"].get("data") != "huggingface":
        return None
    settings = result.get("settings") or {}
    name = settings.get("data.name")
    return name if isinstance(name, str) and not settings.get("data.root") else None
