"""The notes below a sweep's table: what is compared, and how it was tested."""

from __future__ import annotations

from collections.abc import Sequence

from kd.records.run_folder import PICKS
from kd.report.sweep.aggregate import LEVEL, Gain, Group, claims, picking
from kd.report.sweep.comparison import Differences

DEFAULT = ("accuracy", "macro_f1", "nll", "ece", "agreement", "gain")
ANY_MARK = "–"
PICKED_MARK = "†"


def gain_holds(gain: Gain | None) -> bool:
    """Whether this is a significant gain."""
    return bool(gain and gain.significant and gain.mean > 0)


def loss_holds(gain: Gain | None) -> bool:
    """Whether this is a significant loss."""
    return bool(gain and gain.significant and gain.mean < 0)


def notes(
    groups: Sequence[Group],
    columns: Sequence[str] = DEFAULT,
    against: str = "",
    differences: Differences | None = None,
) -> list[str]:
    """Return the notes on the table, sentences of plain text. ``against``: name of the reference."""
    counts = sorted({cell.result["data"]["test"] for group in groups for cell in group.cells})
    images = " or ".join(f"{count:,}" for count in counts)
    sentences = [
        f"Mean ± standard deviation (number of seeds; of teachers in the teacher's row) on {images} test images."
    ]
    if "agreement" in columns:
        sentences.append("Agreement: share of them on which the network predicts what its teacher does.")
    if "balanced_accuracy" in columns:
        sentences.append("Balanced accuracy: the mean over classes of the share that is recognised.")
    if {"accuracy", "gain"} & {*columns}:
        sentences += _of_the_gain(groups, columns, alone=not against)
    if against:
        sentences += _of_the_reference(groups, against, differences or {})
    if "recovered" in columns:
        sentences.append(
            "Recovered: the gain as a share of the teacher's lead over the baseline, by seed, where the teacher leads."
        )
    if "epoch_seconds" in columns:
        sentences.append(
            "s an epoch: the training time of the network itself, validation included; the training of its teachers "
            "and the caching of their logits are not."
        )
    if {"latency_1", "latency_large", "latency_one_thread"} & {*columns}:
        sentences.append(
            "ms: median latency of the network alone, in float32; the large batch is latency.batch. "
            "Measurements on a busy machine are left out."
        )
    by = PICKS[picking(groups)]
    return [*sentences, f"{PICKED_MARK}: picked by validation {by}; the test split had no part in the choice."]


def _of_the_gain(groups: Sequence[Group], columns: Sequence[str], alone: bool) -> list[str]:
    made = [group.gain for group in claims(groups)]
    shown = " and ".join(name for name in ("accuracy", "gain") if name in columns)
    if made:
        sentences = [
            "Gain: in accuracy over the baseline, the same student with the same seed and schedule on labels only. "
            f"Bold{'' if alone else f' ({shown})'}: the gain is significant, {_level(made)}; {_tests(made)}."
        ]
    else:
        there = "Nothing is bold: there" if alone else "There"
        sentences = [f"{there} is no baseline over which a gain could be tested."]
    if "gain" in columns and any(map(loss_holds, made)):
        sentences.append("↓: a loss that is significant in the same sense.")
    if "gain" in columns and any(group.equals_baseline for group in groups):
        sentences.append(
            "A gain of 0 (=): the student is its own baseline, because the teacher has no weight in its loss."
        )
    return sentences


def _of_the_reference(groups: Sequence[Group], against: str, differences: Differences) -> list[str]:
    sentences = [
        f"Over {against}: test accuracy less that of the student of {against}, seed by seed of those that both have "
        "and on the same images; = is that student itself."
    ]
    made = [each.gain for each in differences.values() if each.gain]
    if not differences:
        return [*sentences, f"Over, {ANY_MARK}: no cell on these test images has {against}."]
    if made:
        arrow = ", ↓: significantly worse" if any(map(loss_holds, made)) else ""
        sentences.append(f"Bold (over): significantly better{arrow}, {_level(made)}; {_tests(made)}.")
    if any(group.runs not in differences for group in groups):
        sentences.append(f"Over, {ANY_MARK}: no seed in common, or the predictions were deleted.")
    return sentences


def _level(gains: Sequence[Gain]) -> str:
    return f"p < {LEVEL:g} after Holm's correction for {len(gains)} {'test' if len(gains) == 1 else 'tests'}"


def _tests(gains: Sequence[Gain]) -> str:
    several = "a two-sided t test with seeds and test images as crossed random effects"
    one = "McNemar's exact test for one seed, which covers the test images alone and not other seeds"
    seeds = [gain.seeds for gain in gains]
    return " and ".join(words for words, used in ((several, max(seeds) > 1), (one, min(seeds) == 1)) if used)
