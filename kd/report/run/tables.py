"""The tables of a run, from ``result.json``; report.md, the terminal and W&B show the same rows."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kd.records.run_folder import ROLE_LABELS, Rows, batch_sizes, is_calm, roles_of
from kd.report.gain import gain_recovered
from kd.report.text import batch_label, is_finite, millions, percent, significant, spread

BUSY_MARK = "*"  # marks a number that was timed while other processes used the cores
UNEQUAL = 1.2  # largest class / smallest class of the test split, above which balanced accuracy has a row
DEFAULTS_OF_OLD_RESULTS = {
    "data.balance": "none",
    "train.pick_by": "accuracy",
}  # settings that older results lack, and their values
SEEDS = {  # measures with a mean over seeds: name, scale
    "accuracy": ("accuracy (%)", 100.0),
    "top5_accuracy": ("top-5 accuracy (%)", 100.0),
    "balanced_accuracy": ("balanced accuracy (%)", 100.0),
    "macro_f1": ("macro F1 (%)", 100.0),
    "nll": ("NLL (nats)", 1.0),
    "ece": ("ECE (%)", 100.0),
}


def _arrow(difference: float) -> str:
    return "↑ " if difference > 0 else "↓ " if difference < 0 else ""


def _points(difference: float | None) -> str:
    return f"{_arrow(difference)}{abs(100 * difference):.2f} points" if is_finite(difference) else ""


def _absolute(student: float | None, teacher: float | None, show: Callable[[float], str], unit: str) -> str:
    if not (is_finite(student) and is_finite(teacher)):
        return ""
    return f"{_arrow(student - teacher)}{show(abs(student - teacher))}{unit}"


def _ratio(value: float | None, less: str, more: str) -> str:
    """Format a ratio teacher / student: 42.5 -> "↓ 42.5× smaller", 0.5 -> "↑ 2.00× larger"."""
    if not is_finite(value) or value <= 0:
        return ""
    return f"↓ {significant(value)}× {less}" if value >= 1 else f"↑ {significant(1 / value)}× {more}"


def reference_of(result: Mapping[str, Any]) -> str | None:
    """Return the role with which a run's student is compared: its teacher, else the baseline; None without both."""
    return next((role for role in ("teacher", "baseline") if result.get(role)), None)


def comparison_rows(result: Mapping[str, Any]) -> Rows:
    """Return the rows of the table of networks, cells as text.

    Columns: ``metric``, one per model, ``student vs teacher`` (the arrow shows whether the student's number is higher
    or lower) and ``better`` ("higher" or "lower"). A run without a baseline has no column for it. ``BUSY_MARK`` marks
    numbers that were timed on a busy machine. Without a teacher the student is compared with the baseline, and only in
    what differs between them: both are the same network.
    """
    keys, reference = roles_of(result), reference_of(result)
    student, other = result["student"], result.get(reference)
    rows: Rows = []

    def add(metric: str, cell: Callable[[str], str], against: str, better: str) -> None:
        cells = {ROLE_LABELS[key]: cell(key) for key in keys}
        versus = {f"student vs {reference}": against} if reference else {}
        rows.append({"metric": metric, **cells, **versus, "better": better})

    def difference(name: str) -> str:
        return _points(student[name] - other[name]) if other else ""

    def parameters(key: str) -> str:
        live, published = result[key]["params"], result[key].get("params_published")
        if published in (None, live):
            return millions(live)
        return f"{millions(live)} M live; {millions(published)} M as published"

    add("accuracy (%)", lambda k: percent(result[k]["accuracy"]), difference("accuracy"), "higher")
    for name, metric in (("top5_accuracy", "top-5 accuracy (%)"), ("balanced_accuracy", "balanced accuracy (%)")):
        scores = {key: result[key].get(name) for key in keys}  # None in older results
        if all(map(is_finite, scores.values())) and (name == "top5_accuracy" or not _equal_classes(student)):
            add(metric, lambda k, scores=scores: percent(scores[k]), difference(name), "higher")
    add("macro F1 (%)", lambda k: percent(result[k]["macro_f1"]), difference("macro_f1"), "higher")
    nll = _absolute(student["nll"], other["nll"], significant, "") if other else ""
    add("NLL (nats)", lambda k: significant(result[k]["nll"]), nll, "lower")
    add("ECE, 15 bins (%)", lambda k: percent(result[k]["ece"]), difference("ece"), "lower")
    compared, teacher = result["comparison"], result.get("teacher")
    agreement = {"student": compared["agreement"], "baseline": compared.get("baseline_agreement")}
    if teacher:
        add("agreement with the teacher (%)", lambda k: percent(agreement.get(k)), "", "higher")
    if teacher and "baseline" in keys:
        recovered = gain_recovered(result)
        add("gain recovered (%)", lambda k: percent(recovered) if k == "student" else "–", "", "higher")
    add(
        "model size (MB)",
        lambda k: significant(result[k]["size_mb"]),
        _ratio(compared["size_ratio"], "smaller", "larger"),
        "lower",
    )
    add("parameters (M)", parameters, _ratio(compared["params_ratio"], "fewer", "more"), "lower")
    if teacher:
        reduction = {key: 1 - result[key]["params"] / teacher["params"] for key in keys if key != "teacher"}
        reduction["student"] = compared["params_reduction"]
        add("parameter reduction (%)", lambda k: percent(reduction.get(k)), "", "higher")
    add("MACs (M)", lambda k: millions(result[k]["macs"]), _ratio(compared["macs_ratio"], "fewer", "more"), "lower")
    for metric, cells, against, better in _times(result):
        add(metric, lambda k, cells=cells: cells[k], against, better)
    return rows


def _times(result: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str], str, str]]:
    """Yield (metric, cells by role, student against teacher, "higher" or "lower") of every time and speed."""
    keys, large = roles_of(result), batch_sizes(result)[-1]
    all_threads = {key: result[key] for key in keys}
    one_thread = {key: result[key].get("one_thread") for key in keys}

    def mark(text: str, *timed: tuple[Mapping[str, Any], str]) -> str:
        return text + BUSY_MARK * (not all(is_calm(cost, batch) for cost, batch in timed))

    def row(
        metric: str, costs: Mapping[str, Any], batch: str, value: Callable[[Any], float], change: Callable
    ) -> tuple:
        number = {key: value(costs[key]) for key in keys}
        cells = {key: mark(significant(number[key]), (costs[key], batch)) for key in keys}
        if "teacher" not in keys:
            return metric, cells, ""
        both = (costs["student"], batch), (costs["teacher"], batch)
        return metric, cells, mark(change(number["student"], number["teacher"]), *both)

    def difference(ours: float, theirs: float) -> str:
        return _absolute(ours, theirs, significant, " ms")

    def times_as_many(ours: float, theirs: float) -> str:
        return f"{'↑' if ours >= theirs else '↓'} {significant(ours / theirs)}×"

    def speed_up(metric: str, costs: Mapping[str, Any], batch: str) -> tuple:
        teacher = costs["teacher"]
        ratio = {key: teacher["latency_ms"][batch]["p50"] / costs[key]["latency_ms"][batch]["p50"] for key in keys}
        cells = {key: mark(f"{significant(ratio[key])}×", (costs[key], batch), (teacher, batch)) for key in keys}
        return metric, {**cells, "teacher": "1×"}, "", "higher"

    for batch in batch_sizes(result):
        for q in ("p50", "p95"):
            metric = f"latency {batch_label(batch)}, {q} (ms)"
            yield *row(metric, all_threads, batch, lambda c, b=batch, q=q: c["latency_ms"][b][q], difference), "lower"
        if "teacher" in keys:
            yield speed_up(f"speed-up {batch_label(batch)}", all_threads, batch)
    rate = row("throughput (images/s)", all_threads, large, lambda cost: cost["throughput"], times_as_many)
    yield *rate, "higher"
    if not all(one_thread.values()):
        return
    for batch in batch_sizes(result):
        metric = f"{batch_label(batch)} on one thread (ms)"
        yield *row(metric, one_thread, batch, lambda c, b=batch: c["latency_ms"][b]["p50"], difference), "lower"
        if "teacher" in keys:
            yield speed_up(f"speed-up {batch_label(batch)}, one thread", one_thread, batch)


def _equal_classes(model: Mapping[str, Any]) -> bool:
    """Whether all classes have about as many test images, so that balanced accuracy is close to accuracy."""
    supports = [sum(row) for row in model["confusion"]]
    return max(supports) <= UNEQUAL * min(supports)


def seeds_rows(results: Sequence[Mapping[str, Any]]) -> Rows:
    """Return mean ± standard deviation (n - 1) over runs that differ in the seed, and their gain over the baseline.

    Raises:
        ValueError: the runs differ in more than the seed, or were tested on different images.
    """

    def apart_from_seed(result: Mapping[str, Any]) -> dict[str, Any]:
        settings = {**DEFAULTS_OF_OLD_RESULTS, **result["settings"]}
        return {k: v for k, v in settings.items() if k not in ("seed", "outputs") and "tracking" not in k}

    if any(apart_from_seed(result) != apart_from_seed(results[0]) for result in results):
        raise ValueError("these runs differ in more than their seed, so they have no common mean")
    if len({(result["data"].get("content") or {}).get("test") for result in results} - {None}) > 1:
        raise ValueError("these runs were tested on different images, so they have no common mean")
    rows: Rows = []
    for metric, (name, scale) in SEEDS.items():
        if not all(is_finite(r[key].get(metric)) for key in roles_of(results[0]) for r in results):
            continue
        if metric == "balanced_accuracy" and all(_equal_classes(r["student"]) for r in results):
            continue
        cells = {ROLE_LABELS[key]: spread([scale * r[key][metric] for r in results]) for key in roles_of(results[0])}
        gain = ""
        if results[0].get("baseline"):
            gain = spread([scale * (r["student"][metric] - r["baseline"][metric]) for r in results])
        rows.append({"metric": name, **cells, "student − baseline": gain})
    return rows


def per_class_rows(result: Mapping[str, Any]) -> Rows:
    """Return one row per class and model: scores in percent (MCC in [-1, 1]), None where a score is undefined.

    A class without a test image has no recall, F1 or MCC.
    """
    rows: Rows = []
    for name in result["data"]["classes"]:
        for key in roles_of(result):
            scores = result[key]["per_class"][name]

            def score(metric: str, scale: float = 100.0, scores: Mapping[str, Any] = scores) -> float | None:
                undefined = not scores["support"] and metric in ("recall", "f1", "mcc")
                return scale * scores[metric] if is_finite(scores[metric]) and not undefined else None

            rows.append(
                {
                    "class": name,
                    "model": ROLE_LABELS[key],
                    "precision (%)": score("precision"),
                    "recall (%)": score("recall"),
                    "specificity (%)": score("specificity"),
                    "F1 (%)": score("f1"),
                    "MCC": score("mcc", 1.0),
                    "support": int(scores["support"]),
                }
            )
    return rows


def verdict(result: Mapping[str, Any]) -> str:
    """Return sentences that say whether the method gained more than noise explains."""
    taught = bool(result.get("teacher"))
    method, alone = ("Distillation", "") if taught else (f"kd={result['choices']['kd']}", f"{without_teacher(result)} ")
    if not result.get("baseline"):
        return f"{alone}This run has no baseline, so it cannot say what {'distillation' if taught else method} gained."
    compared, count = result["comparison"], result["data"]["test"]
    gain, p = compared["accuracy_gain"], compared["mcnemar_p"]
    if not (is_finite(gain) and is_finite(p)):
        return "The result holds no comparison with the baseline."
    if gain == 0:
        what = "distillation" if taught else method
        head = f"On these {count:,} images {what} neither gained nor lost against the baseline"
    else:
        change = "gained" if gain > 0 else "lost"
        head = f"{method} {change} {abs(100 * gain):.2f} points {'over' if gain > 0 else 'against'} the baseline"
    chance = "p < 0.0001" if p < 0.0001 else f"p = {significant(p)}"
    test = f"McNemar's exact test on the same {count:,} images: {chance}"
    if p < 0.05:
        tail = "more than the choice of test images explains (p < 0.05)"
    else:
        tail = "not distinguishable from noise (p ≥ 0.05)"
    seed = "This is one seed: how much another seed would change is not in that number."
    weak = ""
    if taught and (teacher := result["teacher"]["accuracy"]) <= result["baseline"]["accuracy"]:
        weak = f" The teacher ({100 * teacher:.2f} %) is no better than the baseline."
    return f"{alone}{head}: {tail}. {test}. {seed}{weak}"


def without_teacher(result: Mapping[str, Any]) -> str:
    """Return a sentence: that there is no teacher, and what is compared."""
    words = f"There is no teacher: kd={result['choices']['kd']} reads none"
    if not result.get("baseline"):
        return f"{words}, and there is no baseline to compare the student with."
    return (
        f"{words}. The student is compared with the baseline: the same network, with the same seed, schedule and "
        "images, trained on labels alone."
    )


def latency_warning(result: Mapping[str, Any]) -> str:
    """Return a warning that names the networks timed while other processes used the cores; "" if there are none."""
    disturbed = [ROLE_LABELS[key] for key in roles_of(result) if not is_calm(result[key])]
    if not disturbed:
        return ""
    if all("calm" not in times for key in roles_of(result) for times in result[key]["latency_ms"].values()):
        return (
            f"{BUSY_MARK} The version that timed this did not check whether other processes used the machine. Run the "
            "same command again: it reuses the run and times it again."
        )
    return (
        f"{BUSY_MARK} Other processes used the machine during this measurement ({', '.join(disturbed)}), so these "
        "latencies, speed-ups and throughputs are not valid. They are not cached: run the same command again when the "
        "machine is idle. It reuses the run and times it again."
    )


def terminal_table(result: Mapping[str, Any]) -> str:
    """Return the text printed at the end of a run: title, table, verdict."""
    rows = comparison_rows(result)
    columns = list(rows[0])
    # cells of several lines keep the table at 100 columns: wrapped headings, "12.31 M live; 23.83 M as published"
    table = [[textwrap.wrap(column, 12) for column in columns]]
    table += [[row[column].split("; ") for column in columns] for row in rows]
    widths = [max(len(part) for line in table for part in line[k]) for k in range(len(columns))]
    lines = ["\n".join(_terminal_line(line, widths)) for line in table]
    width = sum(widths) + 2 * (len(widths) - 1)
    rule = "─" * width
    title = [
        result["name"],
        *textwrap.wrap(f"{choices_line(result)}, seed {result['seed']}; {result['data']['test']:,} test images", width),
    ]
    return "\n".join(
        [
            *title,
            rule,
            lines[0],
            rule,
            *lines[1:],
            rule,
            *textwrap.wrap(verdict(result), width),
            *textwrap.wrap(latency_warning(result), width),
        ]
    )


def _terminal_line(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of one row; the first and last columns are aligned left, numbers right."""
    for level in range(max(len(cell) for cell in cells)):
        parts = [cell[level] if level < len(cell) else "" for cell in cells]
        aligned = [part.rjust(width) for part, width in zip(parts, widths, strict=True)]
        aligned[0], aligned[-1] = parts[0].ljust(widths[0]), parts[-1]
        yield "  ".join(aligned).rstrip()


def choices_line(result: Mapping[str, Any]) -> str:
    """Return the chosen options: ``data=scenes, kd=hinton``."""
    return ", ".join(f"{group}={option}" for group, option in result["choices"].items())
