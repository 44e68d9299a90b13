"""What W&B shows of a run: its labels, its config and its summary, redacted and under the names that its panels use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kd.config.wandb_names import NAME_LENGTH, TAG_LENGTH, as_group
from kd.tracking.redact import redact

FREE_TEXT = ("notes", "command", "run", "error")  # may name folders of this machine

# config: a second name for the settings that people filter by. It has no dot, because in a filter, a grouping or a
# panel W&B reads ``kd.temperature`` as ``temperature`` inside ``kd``.
SHORT_NAMES = {
    "temperature": "kd.temperature",
    "alpha": "kd.alpha",
    "width": "student.width",
    "method": "choices.kd",
    **{group: f"choices.{group}" for group in ("data", "teacher", "attention", "student")},
}
# summary: the scores of the network that a run is about, under the same names for all job types -> their names in
# result.json
NETWORK_SUMMARY = {
    "test/accuracy": "accuracy",
    "test/top5_accuracy": "top5_accuracy",
    "test/balanced_accuracy": "balanced_accuracy",
    "test/macro_f1": "macro_f1",
    "test/nll": "nll",
    "test/ece": "ece",
    "val/accuracy": "training/best_val_accuracy",
    "val/balanced_accuracy": "training/best_val_balanced_accuracy",
    "val/macro_f1": "training/best_val_macro_f1",
    "cost/params": "params",
    "cost/macs": "macs",
    "cost/size_mb": "size_mb",
    "cost/latency_ms": "latency_ms/batch_1/p50",
    "cost/throughput": "throughput",
}
# settings and choices that do not describe a teacher, or a baseline
UNRELATED_SETTINGS = {
    "teacher": ("baseline.", "kd.", "baseline_kd.", "second_augment.", "student.", "train.student."),
    "baseline": ("kd.", "second_augment.", "teacher.", "attention.", "train.teacher."),
}


def init_arguments(
    *,
    run_id: str,
    name: str,
    config: Mapping[str, Any],
    group: str | None,
    job_type: str | None,
    tags: Sequence[str],
    project: str,
    entity: str | None,
    notes: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of ``wandb.init`` that describe a run, redacted and cut to the lengths that W&B accepts."""
    config, group = redact(config), redact(group)
    group = group and as_group(group)
    tags = dict.fromkeys(redact(str(tag))[:TAG_LENGTH] for tag in tags)  # redacted text may be longer
    short = {name: config[setting] for name, setting in SHORT_NAMES.items() if setting in config}
    labels = {"group": group, "job_type": job_type}  # in the config too: wandb leet filters by config alone
    return {
        "id": run_id,
        "name": redact(name)[:NAME_LENGTH],
        "group": group,
        "job_type": job_type,
        "notes": redact(notes),
        "tags": [*filter(None, tags)],
        "project": project,
        "entity": entity,
        "config": short | {name: value for name, value in labels.items() if value} | config,
    }


def sibling_config(config: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return the part of a run's config that describes its teacher or its baseline."""
    kept = {
        key: value
        for key, value in config.items()
        if key not in (*SHORT_NAMES, "job_type")
        and not f"{key.removeprefix('choices.')}.".startswith(UNRELATED_SETTINGS[role])
    }
    if role == "teacher":
        kept["seed"] = config.get("teacher.seed")  # "seed" is the student's
    return kept


def run_summary(result: Mapping[str, Any], role: str | None) -> dict[str, Any]:
    """Return the summary of a run that is about ``role``: all of ``result``, and the scores of its own network."""
    scores = dict(flatten_result(result.get(role) or {}))
    own = {name: scores[source] for name, source in NETWORK_SUMMARY.items() if scores.get(source) is not None}
    return redact(dict(flatten_result(result)) | own)


def artifact_metadata(result: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return the numbers of one network and the options of its run."""
    prefixes = (f"{role}/", "choices/")
    return redact({name: value for name, value in flatten_result(result) if name.startswith(prefixes)})


def flatten_result(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of result.json as ("student/latency_ms/batch_1/p50", 1.2), without lists.

    Left out: the settings (the config has them), the per-class table, and free text, which may name paths.
    """
    for name, value in result.items():
        if name in ("settings", "per_class", *FREE_TEXT):
            continue
        if isinstance(value, Mapping):
            yield from flatten_result(value, f"{prefix}{name}/")
        elif value is not None and not isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", to_python(value)


def flatten_gradients(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the log with single numbers in place of its list "gradients".

    The latest measurement is "gradients/<term>/share", and so on; that before the first step is
    "gradients_at_start/<term>/share", because it may be of the same epoch as another.
    """
    numbers = {name: value for name, value in row.items() if name != "gradients"}
    for entry in row.get("gradients") or ():
        for prefix in ("gradients", *(["gradients_at_start"] if entry["progress"] == 0 else [])):
            for name, value in flatten_result(entry["terms"]):
                numbers[f"{prefix}/{name}"] = value
    return numbers


def drop_free_text(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in FREE_TEXT}


def to_python(value: Any) -> Any:
    """Return the Python number in a NumPy or torch scalar; return anything else unchanged."""
    return value.item() if hasattr(value, "item") else value
