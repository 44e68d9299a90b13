"""Write the page of ``result.json``: every field with its unit; tests/pipeline/test_run.py compares it with a run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reference.text import code, prose, table

ROLES = ("teacher", "baseline", "student")


class Field(NamedTuple):
    path: str  # <role>, <class>, <n>, <group>, <part>, <measure> and <split> are placeholders
    unit: str
    meaning: str


SECTIONS: dict[str, tuple[str, list[Field]]] = {
    "The run": (
        "",
        [
            Field("version", "number", "the version of this format: 1"),
            Field("name", "text", "the readable name of the run; the name of its folder"),
            Field("key", "text", "the content key: equal for two runs that compute the same numbers"),
            Field("choices.<group>", "text", "the option that each config group chose"),
            Field("command", "text", "the command that makes this run again"),
            Field("seed", "number", "the student's seed"),
            Field("settings", "mapping", "every setting, resolved, under its dotted name: `train.student.lr`"),
            Field("seconds.<part>", "s", "wall time of each part of this run; what the run reuses takes none"),
        ],
    ),
    "Networks": (
        "`teacher`, `student` and `baseline` each hold these fields; `<role>` stands for one of the three. `baseline` "
        "is null with `baseline=false`, and `teacher` where no term of the method reads one. Everything is measured on "
        "the test split, with the epoch that validation picked. Evaluation and latency are float32, in eval mode.",
        [
            Field("<role>.accuracy", "0 to 1", "share of test images whose class is predicted"),
            Field(
                "<role>.top5_accuracy", "0 to 1 or null", "the same among the five likeliest; null up to ten classes"
            ),
            Field("<role>.balanced_accuracy", "0 to 1", "mean recall of the classes: each class counts alike"),
            Field("<role>.macro_f1", "0 to 1", "mean F1 of the classes"),
            Field("<role>.nll", "nats", "mean negative log-likelihood of the true class"),
            Field("<role>.ece", "0 to 1", "expected calibration error: 15 bins of equal width, top label"),
            Field(
                "<role>.per_class.<class>.precision",
                "0 to 1",
                "share of correct ones among the predictions of this class; 0/0 is 0, here and below",
            ),
            Field("<role>.per_class.<class>.recall", "0 to 1", "share of correct ones among the images of this class"),
            Field(
                "<role>.per_class.<class>.specificity",
                "0 to 1",
                "share of the images of other classes that are not predicted as this one",
            ),
            Field("<role>.per_class.<class>.f1", "0 to 1", "harmonic mean of precision and recall"),
            Field("<role>.per_class.<class>.mcc", "-1 to 1", "Matthews correlation, one class against the rest"),
            Field("<role>.per_class.<class>.support", "images", "test images of this class"),
            Field("<role>.confusion", "images", "K lists of K counts: rows are true classes, columns predicted ones"),
            Field("<role>.params", "number", "parameters of the network as deployed"),
            Field(
                "<role>.params_published",
                "number",
                "the same plus those of the published class that no forward pass uses",
            ),
            Field("<role>.macs", "number", "multiply-accumulates of convolutions and matrix products for one image"),
            Field("<role>.size_mb", "MB of 2^20 bytes", "the network as a safetensors file"),
            Field(
                "<role>.latency_ms.batch_<n>.p50", "ms", "median time of a forward pass; `<n>` is 1 and `latency.batch`"
            ),
            Field("<role>.latency_ms.batch_<n>.p95", "ms", "95th percentile"),
            Field(
                "<role>.latency_ms.batch_<n>.calm", "true or false", "false: other programs used the cores meanwhile"
            ),
            Field("<role>.throughput", "images/s", "at the large batch"),
            Field(
                "<role>.one_thread.latency_ms.batch_<n>.p50", "ms", "on one CPU thread; `one_thread` is null on a GPU"
            ),
            Field("<role>.one_thread.latency_ms.batch_<n>.p95", "ms", "95th percentile"),
            Field("<role>.one_thread.latency_ms.batch_<n>.calm", "true or false", "as above"),
            Field("<role>.one_thread.throughput", "images/s", "at the large batch"),
            Field("<role>.training.epochs", "number", "epochs trained; 0 for a network that comes from a checkpoint"),
            Field("<role>.training.best_epoch", "number", "the epoch that validation picked, from 1"),
            Field("<role>.training.picked_by", "text", "the measure that picked it: `train.pick_by`"),
            Field(
                "<role>.training.best_val_<measure>", "0 to 1", "validation accuracy, and that measure, at this epoch"
            ),
            Field("<role>.training.last_val_<measure>", "0 to 1", "the same after the last epoch"),
            Field("<role>.training.seconds", "s", "training time, over all interruptions"),
            Field(
                "<role>.training.weights",
                "mapping",
                "the weight of each term inside its schedule; with `kd.balance=auto`, as the start chose it",
            ),
            Field("<role>.training.found", "true or false", "true: trained before, by another run, and reused"),
        ],
    ),
    "Assistants": (
        "A list, from the teacher's end; empty where the method has none.",
        [
            Field("assistants.name", "text", "`assistant_1` and so on"),
            Field("assistants.accuracy", "0 to 1", "on the test split"),
            Field("assistants.params", "number", "parameters"),
            Field("assistants.training", "mapping", "as for the networks above"),
        ],
    ),
    "Comparison": (
        "Fields that need the baseline are null without one, and those that need the teacher without a teacher.",
        [
            Field("comparison.accuracy_difference", "-1 to 1 or null", "student minus teacher"),
            Field("comparison.accuracy_gain", "-1 to 1 or null", "student minus baseline: the gain by distillation"),
            Field(
                "comparison.gain_recovered",
                "ratio or null",
                "that gain divided by teacher minus baseline; misleading if the teacher is no better than the baseline",
            ),
            Field("comparison.mcnemar_p", "0 to 1 or null", "exact two-sided p, student against baseline, same images"),
            Field("comparison.agreement", "0 to 1", "share of test images on which student and teacher predict alike"),
            Field("comparison.baseline_agreement", "0 to 1 or null", "the same for baseline and teacher"),
            Field("comparison.speed_up.batch_<n>", "ratio", "the teacher's median latency divided by the student's"),
            Field("comparison.speed_up_one_thread.batch_<n>", "ratio", "on one CPU thread; null on a GPU"),
            Field("comparison.size_ratio", "ratio", "the teacher's megabytes divided by the student's"),
            Field("comparison.params_ratio", "ratio", "the teacher's parameters divided by the student's"),
            Field(
                "comparison.params_reduction", "below 1", "1 minus the student's parameters divided by the teacher's"
            ),
            Field("comparison.macs_ratio", "ratio", "the teacher's multiply-accumulates divided by the student's"),
        ],
    ),
    "Objective": (
        "What the student learned from; [`kd.diagnose`](diagnose.md) reads it.",
        [
            Field("objective.reads", "list of text", "the outputs of the teacher that the method reads; empty: none"),
            Field("objective.label_terms", "list of text", "names of the terms that learn the labels"),
            Field(
                "objective.temperature",
                "number or null",
                "T at which the terms soften the teacher's logits, the lowest of several; null: none does",
            ),
            Field(
                "objective.weight_settings",
                "mapping",
                "by term, `key`: the setting that is its weight, as typed; `mixes`: the labels weigh 1 minus that",
            ),
            Field("objective.shares", "mapping", "by added term, the share that `kd.balance=auto` gives it by default"),
            Field("objective.takes_mixtures", "true or false", "whether mixup and CutMix go with the method"),
            Field("objective.takes_unlabelled", "true or false", "whether `data.unlabelled` goes with the method"),
        ],
    ),
    "Machine": (
        "",
        [
            Field("machine.device", "text", "cpu, cuda or mps"),
            Field("machine.device_name", "text", "name of the device in the system"),
            Field("machine.threads", "number", "number of CPU threads of torch"),
            Field("machine.torch", "text", "version"),
            Field("machine.python", "text", "version"),
            Field("machine.precision", "text", "of training: float32 or bfloat16"),
        ],
    ),
    "Data": (
        "",
        [
            Field("data.name", "text", "name of the data set"),
            Field("data.classes", "list of text", "names of the classes, in the order of the logits"),
            Field("data.image_size", "pixels", "side of the square images"),
            Field("data.train", "images", "number of training images"),
            Field("data.val", "images", "number of validation images, which pick the epoch"),
            Field("data.test", "images", "number of test images, for every number above"),
            Field("data.content.<split>", "text", "fingerprint of pixels, labels and order of `val` and `test`"),
            Field("data.notes", "mapping", "remarks: files left out, images in two splits, scale of 16-bit files"),
        ],
    ),
}
OPAQUE = {field.path for _, fields in SECTIONS.values() for field in fields if field.unit == "mapping"}


def result_page(intro: str) -> str:
    parts = [intro]
    for title, (text, fields) in SECTIONS.items():
        parts += [f"## {title}", text]
        rows = [(code(field.path), prose(field.unit), prose(field.meaning)) for field in fields]
        parts.append(table(("field", "unit", "meaning"), rows))
    return "\n\n".join(filter(None, parts))


def unlike(result: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Compare with the result of a run: (fields that the page lacks, fields that the result lacks)."""
    described = {field.path for _, fields in SECTIONS.values() for field in fields}
    actual = set(_fields(result))
    return actual - described, described - actual


def _fields(node: Any, path: str = "") -> Iterator[str]:
    """Yield the fields of a result as on the page; of a list of mappings those of the first."""
    if isinstance(node, Mapping) and node and path not in OPAQUE:
        for name, value in node.items():
            yield from _fields(value, _general(path, name))
    elif isinstance(node, list) and node and isinstance(node[0], Mapping):
        yield from _fields(node[0], path)
    elif node or not isinstance(node, list):  # an empty list does not show its fields
        yield path


def _general(path: str, name: str) -> str:
    """Return the path of a field with placeholders: ``student`` is ``<role>``, ``batch_64`` is ``batch_<n>``."""
    if not path:
        return "<role>" if name in ROLES else name
    if path in ("choices", "seconds", "<role>.per_class", "data.content"):
        name = {"choices": "<group>", "seconds": "<part>", "data.content": "<split>"}.get(path, "<class>")
    name = re.sub(r"^batch_\d+$", "batch_<n>", name)
    name = re.sub(r"^(best|last)_val_\w+$", r"\1_val_<measure>", name)
    return f"{path}.{name}"
