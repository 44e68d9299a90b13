"""What a model card says against its network: only what the files of the run know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kd.export.card_parts import code, ships
from kd.inference.description import Description
from kd.report.run.page import plain
from kd.report.text import escape, is_finite, percent, standard_error
from kd.tracking.redact import redact

WORST = 3  # classes of lowest recall
FITS = {
    "crop": "cropped to its central square",
    "pad": "padded with black to a square",
    "squash": "squashed to a square",
}


def limits(description: Description, result: Mapping[str, Any] | None, report: Mapping[str, Any]) -> list[str]:
    """Return a list of what is known of its limits."""
    size, count = description.image_size, len(description.classes)
    known = [
        f"It names one of its {count:,} classes for every image, also for an image of something else."
        if count > 1
        else "It names its one class for every image.",
        f"An image is {FITS[description.fit]} and resized to {size} × {size} pixels"
        + (", in grey" if description.channels == 1 else "")
        + ": what is smaller or outside is not seen.",
    ]
    known += _measured_limits(result) if result else [_unknown(report)]
    for entry in report.get("files") or []:
        if entry.get("ships") is not True:
            known.append(f"{code(entry.get('file') or '–')}: {escape(ships(entry))}.")
    return ["\n".join(f"- {line}" for line in known)]


def _unknown(report: Mapping[str, Any]) -> str:
    text = "Its accuracy on the test images of its own data set is not known here"
    return f"{text}; the accuracy above is that on other images." if report.get("test_images") else f"{text}."


def _measured_limits(result: Mapping[str, Any]) -> Iterator[str]:
    student, data = result["student"], result["data"]
    tested = data["test"]
    error = 100 * standard_error(student["accuracy"], tested)
    yield (
        f"Its accuracy, {percent(student['accuracy'])} %, is that on {tested:,} images of the same data set: the "
        f"standard error is {error:.2f} points. Images from elsewhere were not tried."
    )
    yield f"It is one training with one seed ({result['seed']}); another seed gives other numbers."
    if is_finite(student.get("ece")):
        yield (
            f"Its expected calibration error is {percent(student['ece'])} %: by so much its highest probability "
            "differs from the share of right answers, on average."
        )
    scored = student.get("per_class") or {}
    recalls = {name: each["recall"] for name, each in scored.items() if each["support"] and is_finite(each["recall"])}
    if len(recalls) > 1:
        worst = sorted(recalls, key=lambda name: recalls[name])[:WORST]
        yield "Lowest recall: " + ", ".join(f"{escape(name)} {percent(recalls[name])} %" for name in worst) + "."
    for name, note in (data.get("notes") or {}).items():
        if not isinstance(note, list | tuple | dict):
            yield f"Of the data: {escape(name.replace('_', ' '))}: {escape(plain(redact(note)))}."
