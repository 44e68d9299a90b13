"""Predictions as text: an aligned table for a terminal, CSV, JSON."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from kd.data.files import printable
from kd.evaluation.metrics import most_confused
from kd.predict.classify import Predictions
from kd.report.text import percent

MATRIX_CLASSES = 20  # a confusion matrix of more is not printed
MAX_PAIRS = 10  # of classes that are confused most
GAP = "  "
JOINER, EMOJI_STYLE, MODIFIERS = "\u200d", "\ufe0f", range(0x1F3FB, 0x1F400)
CRLF = "\r\n"
NTH = {1: "st", 2: "nd", 3: "rd"}


def display_width(text: str) -> int:
    """Return the columns that ``text`` takes on a terminal: 2 for wide (CJK, emoji), 0 for combining characters."""
    width, joined, last = 0, False, 0
    for character in text:
        if joined or (last == 2 and ord(character) in MODIFIERS):  # part of the emoji before
            joined = False
        elif character == JOINER:
            joined = last == 2
        elif character == EMOJI_STYLE:
            width, last = width + (last == 1), 2
        elif unicodedata.category(character) not in ("Mn", "Me", "Cf"):
            last = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            width += last
    return width


def pad(text: str, width: int, right: bool = False) -> str:
    """Fill ``text`` with spaces to ``width`` columns of a terminal; ``right`` aligns it there."""
    spaces = " " * (width - display_width(text))
    return spaces + text if right else text + spaces


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return the rows as lines with aligned columns; the columns numbered in ``right`` are aligned right."""
    right = set(right)
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = ([pad(cell, widths[k], k in right) for k, cell in enumerate(row)] for row in rows)
    return "\n".join(GAP.join(line).rstrip() for line in lines)


def terminal(found: Predictions) -> str:
    """Return the table of the images and, with labels, accuracy and what is confused."""
    parts = []
    if found.files:
        labels = ["label", ""] if found.target is not None else []
        head = ["file", *labels]
        for rank in range(1, found.top.shape[1] + 1):
            head += ["class" if rank == 1 else f"{rank}{_nth(rank)} class", "%"]
        first = 1 + len(labels)
        parts.append(aligned([head, *_cells(found)], range(first + 1, len(head), 2)))
    if found.confusion is not None:
        parts += list(_summary(found))
    return "\n\n".join(parts)


def _nth(number: int) -> str:
    return "th" if number % 100 in (11, 12, 13) else NTH.get(number % 10, "th")


def _cells(found: Predictions) -> Iterator[list[str]]:
    classes = [printable(name) for name in found.classes]
    for row, file in enumerate(found.files):
        cells = [printable(file)]
        if found.target is not None:
            wrong = found.target[row] != found.top[row, 0]
            cells += [classes[found.target[row]], "✗" if wrong else ""]
        for number, chance in zip(found.top[row], found.probability[row], strict=True):
            cells += [classes[number], percent(chance)]
        yield cells


def _summary(found: Predictions) -> Iterator[str]:
    if found.accuracy is None:
        return
    right, count, classes = int(np.trace(found.confusion)), len(found.files), [*map(printable, found.classes)]
    yield f"accuracy {percent(found.accuracy)} % ({right:,} of {count:,} images)"
    if len(classes) <= MATRIX_CLASSES:
        numbers = range(1, len(classes) + 1)
        rows = [["", "true class", *map(str, numbers)]]
        for number, name, counts in zip(numbers, classes, found.confusion.tolist(), strict=True):
            rows.append([str(number), name, *map(str, counts)])
        yield "confusion matrix: a row for each true class, a column for each predicted class\n" + aligned(
            rows, (0, *range(2, len(classes) + 2))
        )
        return
    pairs = most_confused(found.confusion, MAX_PAIRS)
    if pairs:
        rows = [["true class", "predicted", "images", "of"]]
        rows += [[classes[true], classes[other], str(times), str(total)] for true, other, times, total in pairs]
        yield "most confused\n" + aligned(rows, (2, 3))


def as_csv(found: Predictions) -> bytes:
    """Return a line an image in UTF-8: file, label (where known), class_1, probability_1, class_2, ...

    A file name that is not UTF-8 keeps its bytes.
    """
    lines: list[str] = []
    ended = SimpleNamespace(write=lambda line: lines.append(f"{line.removesuffix(CRLF)}\n"))
    table = csv.writer(ended, lineterminator=CRLF)  # so that it quotes a name with either character
    label = [] if found.target is None else ["label"]
    ranks = range(1, found.top.shape[1] + 1)
    table.writerow(["file", *label, *(name for rank in ranks for name in (f"class_{rank}", f"probability_{rank}"))])
    for row, file in enumerate(found.files):
        label = [] if found.target is None else [found.classes[found.target[row]]]
        pairs = zip(found.top[row].tolist(), found.probability[row].tolist(), strict=True)
        table.writerow([file, *label, *(cell for number, chance in pairs for cell in (found.classes[number], chance))])
    return "".join(lines).encode("utf-8", "surrogateescape")


def as_json(found: Predictions, about: dict[str, Any]) -> bytes:
    """Return an object in UTF-8, with a line for each image and each row of the confusion matrix.

    Args:
        about: more entries, which come first.
    """
    counts = None if found.confusion is None else found.confusion.tolist()
    parts = {name: _dumps(value) for name, value in {**about, "accuracy": found.accuracy}.items()}
    parts["confusion"] = "null" if counts is None else _lines(counts)
    parts["classes"] = _dumps(found.classes)
    parts["pictures"] = _lines(_pictures(found))
    parts["failed"] = _lines({"file": file, "reason": reason} for file, reason in found.failed)
    return ("{\n" + ",\n".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}\n").encode()


def _pictures(found: Predictions) -> Iterator[dict[str, Any]]:
    for row, file in enumerate(found.files):
        pairs = zip(found.top[row].tolist(), found.probability[row].tolist(), strict=True)
        top = [{"class": found.classes[number], "probability": chance} for number, chance in pairs]
        label = {} if found.target is None else {"label": found.classes[found.target[row]]}
        yield {"file": file, **label, "top": top}


def _lines(values: Iterable[Any]) -> str:
    lines = [_dumps(value) for value in values]
    return "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"


def _dumps(value: Any) -> str:
    """Return JSON in one line; only a file name that is not UTF-8 has its bytes escaped (and reads back in Python)."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text
