"""``report.json`` and ``report.md`` of an export: size, scores and latencies of each file, and whether it may ship."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.export.measure import Scores
from kd.report.text import escape, markdown_table, percent, significant
from kd.store.files import write_text

LEAST_AGREEMENT = 0.999  # share of test images on which a float format must predict the student's class
THREADS = {"all_threads": "all threads", "one_thread": "1 thread"}


def decide_float(scores: Scores, count: int, tested: bool) -> tuple[bool | None, str]:
    """Return whether a float format may ship, and why; None if no test image has said so.

    Args:
        count: of the images that were compared. tested: whether they are test images.
    """
    same, kind = round(scores.agreement * count), "test images" if tested else "random images"
    text = f"agrees with the torch student on {same:,} of {count:,} {kind}"
    if scores.agreement < LEAST_AGREEMENT:
        return False, f"{text}, and {100 * LEAST_AGREEMENT:g} % are required"
    return (True, text) if tested else (None, f"{text}; no test images were at hand")


def decide_int8(accuracy: float, reference: float, max_drop: float) -> tuple[bool, str]:
    """Return whether an int8 file may ship, and why.

    Args:
        accuracy, reference: of the file and of the torch student on the test split, in [0, 1]. max_drop: points.
    """
    drop = 100 * (reference - accuracy)
    change = f"loses {drop:.2f} points" if drop >= 0.005 else f"gains {-drop:.2f} points" if drop <= -0.005 else "keeps"
    text = f"{change} of accuracy on the test images" if change != "keeps" else "keeps the accuracy on the test images"
    ships = round(drop, 9) < max_drop
    return ships, f"{text}; the limit is {max_drop:g}" if ships else f"{text}, and less than {max_drop:g} is required"


def entry(
    file: str,
    form: str,
    runtime: str,
    size: int,
    scores: Scores | None,
    latency: Mapping[str, Any] | None,
    decision: tuple[bool | None, str],
) -> dict[str, Any]:
    """Return what ``report.json`` says of one file."""
    ships, reason = decision
    about = {"file": file, "format": form, "runtime": runtime, "size_bytes": size}
    return about | numbers(scores) | {"latency_ms": latency, "ships": ships, "reason": reason}


def numbers(scores: Scores | None) -> dict[str, Any]:
    return dict.fromkeys(Scores._fields) if scores is None else scores._asdict()


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.md``, and then ``report.json``, which marks the folder as complete."""
    write_text(folder / "report.md", as_markdown(report))
    write_text(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the text of ``report.md``."""
    lines = [f"# The files of {escape(report['name'])}", "", origin(report), ""]
    lines += [markdown_table(score_rows(report), ("file", "format", "may it ship?")), ""]
    lines += [markdown_table(latency_rows(report), ("file", "runtime")), ""]
    lines += [_note_on_latency(report), "", "## Decisions", ""]
    lines += [
        f"- `{file['file']}` {'' if file['ships'] else '**may not ship**: ' if file['ships'] is False else ''}"
        f"{escape(file['reason'])}."
        for file in report["files"]
    ]
    lines += [f"- {escape(line)}." for line in report["notes"]]
    return "\n".join(lines) + "\n"


def origin(report: Mapping[str, Any]) -> str:
    """Return the sentences that say which student this is, and on what its files were tested."""
    count = report["test_images"]
    where = f"{f'Tested on {count:,} images of ' if count else ''}{escape(report['tested_on'])}."
    machine = report["machine"]
    return (
        f"Student of the run `{report['key'][:10]}`, {len(report['classes']):,} classes. {where} "
        f"Measured on {machine['device_name']} with {machine['threads']} threads, {torch_of(report)}, "
        f"onnxruntime {machine['onnxruntime']}."
    )


def torch_of(report: Mapping[str, Any]) -> str:
    """Return "torch 2.14.1", without the part that says for which accelerator it was built."""
    return f"torch {report['machine']['torch'].partition('+')[0]}"


SHIPS = {True: "yes", False: "no", None: "not tested"}


def score_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the table of sizes and scores."""
    of_torch = [
        ("torch student", "student.safetensors, float32", report["torch"], ""),
        ("folded student", "torch, batch norms folded", report["folded"], ""),
    ]
    files = [(file["file"], file["format"], file, SHIPS[file["ships"]]) for file in report["files"]]
    return [
        {
            "file": name,
            "format": form,
            "size (KB)": significant(each["size_bytes"] / 1024, 4),
            "accuracy (%)": percent(each["accuracy"]),
            "agreement (%)": percent(each.get("agreement")),
            "NLL (nats)": _number(each["nll"], 4),
            "largest difference": _small(each.get("largest_difference")),
            "may it ship?": ships,
        }
        for name, form, each, ships in of_torch + files
    ]


def latency_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the table of latencies: medians in milliseconds, marked if the machine was busy."""
    of_torch = [("torch student", report["torch"]), ("folded student", report["folded"])]
    rows = [(name, torch_of(report), each) for name, each in of_torch]
    rows += [(file["file"], file["runtime"], file) for file in report["files"] if file["latency_ms"]]
    return [{"file": name, "runtime": runtime, **latency_cells(each["latency_ms"])} for name, runtime, each in rows]


def latency_cells(latency: Mapping[str, Any]) -> dict[str, str]:
    """Return the medians of one file by column, such as ``batch 1, 1 thread (ms)``."""
    return {
        f"{batch.replace('_', ' ')}, {THREADS[threads]} (ms)": significant(found["p50"]) + "*" * (not found["calm"])
        for batch in next(iter(latency.values()))
        for threads, by_batch in latency.items()
        for found in [by_batch[batch]]
    }


def is_calm(report: Mapping[str, Any]) -> bool:
    """Whether no other process disturbed any of the latencies."""
    parts = [report["torch"], report["folded"], *report["files"]]
    found = [batch for part in parts for times in (part["latency_ms"] or {}).values() for batch in times.values()]
    return all(each["calm"] for each in found)


def _note_on_latency(report: Mapping[str, Any]) -> str:
    text = (
        "Sizes are in KB of 1,024 bytes. Latency: median of one call, images in memory, after a warm-up, as in the "
        "report of the run."
    )
    if is_calm(report):
        return text
    return (
        f"{text} \\* Other processes used the machine during this measurement, so it is not valid: export again when "
        "the machine is idle."
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if value else "0"


def failing(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the files that may not ship."""
    return [file for file in report["files"] if file["ships"] is False]
