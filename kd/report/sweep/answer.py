"""Texts of a sweep's report about the whole sweep: progress, facts, answer, method. Plain text, escaped later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.keys import key_of
from kd.records.ledger import FINISHED, Sweep
from kd.records.run_folder import PICKS, is_calm
from kd.report.sweep.aggregate import Group, claims, picking
from kd.report.sweep.names import chance, group_name, many, signed
from kd.report.sweep.test_sets import SEED
from kd.report.sweep.view import View, mean
from kd.runtime.values import format_override

REFUSED = "Refused before any training, because these methods cannot work there:"


def progress(sweep: Sweep) -> str:
    """Return the progress: ``18 of 20 cells finished (17 done, 1 reused), 1 failed, 1 waiting``."""
    statuses = ("done", "found", "running", "lost", "failed", "refused", "waiting")
    counts = {status: sweep.count(status) for status in statuses}
    counts["waiting"] += sweep.total - len(sweep.cells)
    ended = counts["done"] + counts["found"]
    detail = f" ({counts['done']} done, {counts['found']} reused)" if counts["found"] else ""
    rest = [f"{counts[status]} {status}" for status in statuses[2:] if counts[status]]
    return ", ".join([f"{ended:,} of {many(sweep.total, 'cell')} finished{detail}", *rest])


def unfinished(sweep: Sweep) -> str:
    """Return a warning if the sweep is not finished, otherwise ""."""
    if sweep.count(*FINISHED, "refused") == sweep.total:
        return ""
    words = f"This sweep is not finished: {progress(sweep)}. Every number below may still change."
    if sweep.count("lost"):
        words += " The process of a lost cell reported nothing: it was killed, or the machine went down."
    if sweep.count("failed", "lost") and not sweep.count("running"):
        words += " Run the same command again: it computes only what is missing."
    return words


def failures(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Return overrides, status and error of each cell that failed or was lost."""
    unsuccessful = [cell for cell in sweep.cells if cell.status in ("failed", "lost")]
    silent = "its process ended without a message"
    return [
        (" ".join(map(format_override, cell.overrides)), cell.status, cell.error or silent) for cell in unsuccessful
    ]


def refusals(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Return overrides, number of cells and sentence of what was refused, because its method cannot work there.

    Cells that differ only in the seed are one line.
    """
    count: dict[tuple[str, str], int] = {}
    for cell in sweep.cells:
        if cell.status == "refused":
            own = (override for override in cell.overrides if key_of(override) != SEED)
            line = " ".join(map(format_override, own)), cell.error or ""
            count[line] = count.get(line, 0) + 1
    if sweep.trials:  # a search never tries them
        count |= {(" ".join(map(format_override, each)), sentence): 0 for each, sentence in sweep.refused}
    return [(line, str(cells), sentence) for (line, sentence), cells in count.items()]


def facts(shown: Sequence[View]) -> list[tuple[str, str]]:
    """Return name and value of the facts about all cells: progress, settings, machine, data set, images, software."""
    sweep = shown[0].sweep
    rows = [("cells", progress(sweep))]
    if sweep.fixed:
        rows.append(("same in all cells", " ".join(map(format_override, sweep.fixed))))
    results = [cell.result for each in shown for group in each.groups for cell in group.cells]
    if not results:
        return rows
    each = {
        "machine": [_machine(result["machine"]) for result in results],
        "data set": [_data(result["data"]) for result in results],
        "images": [_images(result["data"]) for result in results],
        "software": [f"torch {r['machine']['torch']}, Python {r['machine']['python']}" for r in results],
    }
    return rows + [(name, "; ".join(dict.fromkeys(values))) for name, values in each.items()]


def _data(data: Mapping[str, Any]) -> str:
    return f"{data['name']}, {len(data['classes'])} classes, {data['image_size']}×{data['image_size']} pixels"


def _images(data: Mapping[str, Any]) -> str:
    return f"{data['train']:,} to train, {data['val']:,} to validate, {data['test']:,} to test"


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['device_name']} ({machine['device']}), {machine['threads']} threads, {machine['precision']}"


def answers(shown: Sequence[View]) -> list[str]:
    """Return a paragraph per data set; with several, first a sentence on why they are not compared."""
    if len(shown) == 1:
        return [answer(shown[0])]
    sets = "; ".join(each.data for each in shown)
    first = (
        f"This sweep was tested on {len(shown)} data sets ({sets}). Accuracies on different images are not comparable: "
    )
    first += "validation picks, and significance is corrected, within each data set."
    return [first, *(f"{each.data}: {answer(each)}" for each in shown)]


def answer(shown: View) -> str:
    """Return the answer: whether distillation gained more than noise."""
    if not shown.picks:
        return "No cell is finished yet, so there is no result yet."
    tested = claims(shown.groups)
    first = " ".join(_of_a_pick(group, len(tested)) for group in shown.picks)
    if len(shown.picks) > 1:
        first = (
            f"The cells were validated on {len(shown.picks)} sets of images, whose accuracies are not comparable, so "
            f"validation picked one cell for each. {first}"
        )
    up = sum(each.gain.significant and each.gain.mean > 0 for each in tested)
    down = sum(each.gain.significant and each.gain.mean < 0 for each in tested)
    second = f"Of {many(len(tested), 'tested combination')} of settings, {up} gained more than noise"
    second += f" and {down} lost more than noise." if down else "."
    return f"{first} {second}" if tested else first


def _of_a_pick(group: Group, tested: int) -> str:
    accuracy = f"{100 * mean(group, 'accuracy'):.2f} % on the test split"
    if group.gain is None:
        return (
            f"Validation picked {group_name(group.values)}: {accuracy}. It has no baseline, or its predictions were "
            "deleted, so this sweep cannot say what distillation gained."
        )
    gain = group.gain
    if group.equals_baseline:
        first = f"Validation picked {group_name(group.values)}, where the student learns from the labels alone: no "
        first += "combination of settings with a teacher did better there."
    else:
        change, over = ("gained", "over") if gain.mean >= 0 else ("lost", "against")
        holm = f"{chance(gain.p_holm)} after Holm's correction for {many(tested, 'comparison')}"
        verdict = "more than noise" if gain.significant else "not distinguishable from noise"
        interval = f"95 % interval {signed(gain.low)} to {signed(gain.high)}"
        first = (
            f"Validation picked {group_name(group.values)}. Distillation {change} {abs(100 * gain.mean):.2f} points "
            f"there {over} the baseline ({interval}, {many(gain.seeds, 'seed')}): {verdict}, {holm}."
        )
        if gain.seeds == 1:
            first += " With one seed this covers the choice of test images alone, not other seeds."
    return first


def method(shown: Sequence[View]) -> list[str]:
    """Return notes on the baseline, the significance test, the pick and latency."""
    tested = " and ".join(str(len(claims(each.groups))) for each in shown)
    compared = [
        "The baseline (labels only) is the same student, trained without a teacher. It shares the student's seed, and "
        "with it initial weights, order of images and views. The gain is the mean over seeds of the difference of "
        "their test accuracies.",
        "With two or more seeds, the interval and p come from a t test on these differences in which both the seeds "
        "and the test images are random; two seeds are too few for it. With one seed, the interval comes from a "
        "bootstrap over test images and p from McNemar's exact test: they do not cover other seeds.",
        "With many combinations, some gain by chance. Holm's correction aims to keep the probability of any false "
        "claim among all that were tested at 5 %; with three seeds that differ by more than a point and a half it was "
        f"up to 9 % in simulations. Tested combinations: {tested}. They have a baseline; the same runs count once, and "
        "a student that is the baseline itself (α = 0) does not count.",
    ]
    measure = PICKS[picking(group for each in shown for group in each.groups)]
    notes = [
        *(compared if any(each.baselines for each in shown) else []),
        *(["Data sets differ in the content of the test split: pixels, labels or order."] if shown[1:] else []),
        f"The cell was picked by the mean validation {measure} over its seeds; the test split had no part in it. The "
        "highest test accuracy in the map may therefore be another cell's, and would be too optimistic a number to "
        "quote. The fronts show test accuracy: they describe, and pick nothing.",
        "± is one standard deviation over seeds (n − 1), followed by the number of seeds in parentheses.",
        "A reused cell was computed before, by this sweep or another, with the same settings. At α = 0 the temperature "
        "has no effect: all those cells are one run.",
    ]
    result = shown[0].result
    if result is not None:
        machine = result["machine"]
        notes.append(
            f"Latency is the median over repeated passes of the network alone, in float32 and evaluation mode, on "
            f"{machine['device_name']} ({machine['device']}) with {machine['threads']} threads. A network is timed "
            "once on each machine, and all cells share that number. MACs and size are exact. MB are 2^20 bytes."
        )
        cells = [cell for each in shown for group in each.groups for cell in group.cells]
        busy = sum(not is_calm(cell.result["student"]) for cell in cells)
        if busy:
            notes.append(
                f"{many(busy, 'cell')} timed the student while other processes used the machine, or did not check "
                "that: their latencies and throughputs are left out (–) and are on no front. When the machine is idle, "
                "run the same command again: it reuses the cells and times them again."
            )
    return notes
