"""Compare groups with a reference group: paired differences, their intervals and tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kd.evaluation.metrics import mcnemar
from kd.evaluation.statistics import holm
from kd.records.ledger import Cell
from kd.report.sweep.aggregate import LEVEL, Gain, Group, Spread, distinct, has, load_predictions, paired_gain, spread
from kd.runtime.text import did_you_mean
from kd.runtime.values import format_value, parse_value


@dataclass(frozen=True)
class Difference:
    """Test accuracy of a group's student minus that of the reference's, for each seed that both have."""

    spread: Spread  # of the seeds' differences
    gain: Gain | None  # its test, p_holm over all groups compared; None if both are the same network


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """Parse ``["kd=hinton", "kd.temperature=4,kd.alpha=0.9"]`` into values by name.

    A comma separates settings only if a setting follows it.

    Raises:
        ValueError: a text has no setting or no value, or a setting occurs twice.
    """
    settings = {}
    for text in texts:
        for one in re.split(r",(?=[^=,\[\]{}]+=)", text):
            name, equals, value = one.strip().partition("=")
            if not (name and equals and value):
                raise ValueError(f"{one!r} is not of the form SETTING=VALUE; kd=hinton is")
            if name in settings:
                raise ValueError(f"{name} is given twice, and a reference is one group")
            settings[name] = parse_value(value)
    return settings


def matching(groups: Sequence[Group], wanted: Mapping[str, Any]) -> Group:
    """Return the one group whose swept values include all of ``wanted``; of several with the same runs the first.

    Raises:
        ValueError: no group or several have them; the message lists what exists.
    """
    names = list(dict.fromkeys(name for group in groups for name in group.values))
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} was not swept. Swept: {', '.join(names) or 'only the seed'}")
    there = [group for group in groups if has(group, wanted)]
    words = ", ".join(f"{name}={format_value(value)}" for name, value in wanted.items())
    if not there:
        values = {name: list(map(format_value, distinct(groups, name))) for name in wanted}
        pairs = [(format_value(value), values[name]) for name, value in wanted.items()]
        hint = did_you_mean(*pairs[0], most=1) if len(pairs) == 1 else ""
        known = "; ".join(f"{name}={','.join(texts)}" for name, texts in values.items())
        raise ValueError(f"no finished cell of the sweep has {words}. There is {known}{hint}")
    if len({group.runs for group in there}) > 1:
        others = [name for name in names if name not in wanted and len(distinct(there, name)) > 1]
        open_ = "; ".join(f"{name}={','.join(map(format_value, distinct(there, name)))}" for name in others)
        raise ValueError(f"{len(there)} groups have {words}: choose one by adding {open_}")
    return there[0]


def compared(groups: Iterable[Group], reference: Group) -> dict[tuple[Path, ...], Difference]:
    """Return by ``Group.runs`` the difference of each group's student from the reference's; the reference is included.

    Differences are paired by seed and by test image, tested like ``Gain``, and corrected for all groups compared (those
    with the same runs count once). A group without a seed of the reference, or without predictions, is left out.

    Raises:
        FileNotFoundError: predictions of the reference are missing.
        ValueError: a group was tested on other images than the reference.
    """
    target, _ = load_predictions(reference.cells[0], "student")

    def students(cells: Iterable[Cell]) -> list[np.ndarray]:
        made = []
        for cell in cells:
            targets, logits = load_predictions(cell, "student")
            if not np.array_equal(targets, target):  # although their results say otherwise
                raise ValueError(
                    f"{cell.run.name} and {reference.runs[0].name} were tested on different images (predictions.npz: "
                    "target), so their students cannot be compared image by image."
                )
            made.append(logits)
        return made

    theirs = dict(zip(reference.seeds, students(reference.cells), strict=True))
    differences = {reference.runs: Difference(spread([0.0] * len(theirs)), None)}
    for group in groups:
        if group.test != reference.test:  # other images may have the same labels in the same order
            raise ValueError(
                f"{group.runs[0].name} and {reference.runs[0].name} were tested on different images "
                "(result.json: data.content), so their students cannot be compared."
            )
        common = [cell for cell in group.cells if cell.result["seed"] in theirs]
        if group.runs in differences or not common:
            continue
        try:
            ours = students(common)
        except FileNotFoundError:
            continue
        others = [theirs[cell.result["seed"]] for cell in common]
        student, other = (np.array([logits.argmax(1) == target for logits in each]) for each in (ours, others))
        gain = None
        if not all(map(np.array_equal, ours, others)):
            gain = paired_gain(student, other, lambda ours=ours, others=others: mcnemar(ours[0], others[0], target))
        differences[group.runs] = Difference(spread(student.mean(1) - other.mean(1)), gain)
    tested = {runs: each.gain for runs, each in differences.items() if each.gain}
    for (runs, gain), p in zip(tested.items(), holm([gain.p for gain in tested.values()]), strict=True):
        differences[runs] = replace(differences[runs], gain=replace(gain, p_holm=float(p), significant=bool(p < LEVEL)))
    return differences


Differences = Mapping[tuple[Path, ...], Difference]  # returned by ``compared``
