"""Write ``student.int8.onnx``: choose on validation, decide on the test splits, say which layers do harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import onnx

from kd.export import measure
from kd.export.int8 import Choice, Quantiser, Score, about, choose, leave_out
from kd.export.onnx_file import describe, save
from kd.export.report import decide_int8
from kd.export.trial import Trial
from kd.runtime.console import print_line
from kd.runtime.errors import first_line
from kd.tracking.redact import redact

FILE = "student.int8.onnx"


class Int8(NamedTuple):
    """The outcome: a row of the report, or the reason why there is none."""

    row: dict[str, Any] | None
    account: dict[str, Any] | None  # of how it was chosen, for report.json
    note: str | None = None


def write_int8(trial: Trial, folder: Path, model: onnx.ModelProto, max_drop: float, auto: bool) -> Int8:
    """Quantise the float32 model of a student.

    Args:
        max_drop: points of accuracy that it may lose on the test split. auto: leave out the layers that do harm, if it
            loses more: validation chooses which, the test split only that any are left out.
    """
    splits = trial.splits
    if splits is None or not splits.calibration_count or not len(splits.val.targets):
        return Int8(None, None, f"{FILE} is not written: there are no images to calibrate it on")
    print_line(f"{FILE}: calibrating on {splits.calibration_count:,} training views")

    def on_validation(made: onnx.ModelProto) -> Score:
        session = measure.open_session(made.SerializeToString())
        logits = measure.predict_all(measure.by_session(session), splits.val.batches())
        found = measure.compare(logits, logits, splits.val.targets)
        return Score(found.accuracy, found.nll)

    try:
        quantiser = Quantiser(model, splits.calibration)
        best, tried = choose(quantiser, on_validation, len(splits.val.targets))
    except Exception as error:  # onnxruntime has no common class for these
        reason = redact(first_line(error))
        return Int8(None, None, f"{FILE} is not written: onnxruntime cannot quantise this student ({reason})")
    floating = on_validation(model)
    account: dict[str, Any] = {"method": best.method, "calibration_images": splits.calibration_count}
    account |= {"validation_images": len(splits.val.targets), "float32": floating._asdict()}
    account |= {"tried": {name: score._asdict() for name, score in tried.items()}, "left_out": [], "suggested": []}
    row = _row(trial, folder / FILE, best, max_drop)
    if row["ships"]:
        return Int8(row, account)

    print_line(f"{FILE} loses too much: measuring which of its {len(quantiser.layers)} layers do the harm")
    allowed = max_drop / 200  # half of the limit, because the test split may lose more than validation does
    better = leave_out(quantiser, best.method, on_validation, lambda s: floating.accuracy - s.accuracy <= allowed)
    if better is None:
        row["reason"] += "; leaving out layers does not help, because all would have to stay float32"
        return Int8(row, account)
    account["suggested"] = list(better.left_out)
    named = ", ".join(better.left_out)
    if auto:
        row = _row(trial, folder / FILE, better, max_drop)
        row["reason"] += (
            f"; all of it in int8 lost too much there, so these layers stay float32, by validation: {named}"
        )
        return Int8(row, account | {"left_out": list(better.left_out)})
    points = 100 * (floating.accuracy - better.score.accuracy)
    row["reason"] += (
        f"; leave these layers out of quantisation, and it loses {points:.2f} points on validation: {named} "
        "(--auto does it)"
    )
    return Int8(row, account)


def _row(trial: Trial, path: Path, choice: Choice, max_drop: float) -> dict[str, Any]:
    """Write a quantised model and return its row."""
    describe(choice.model, trial.description, about(choice, trial.splits.calibration_count))
    save(choice.model, path)
    form = f"ONNX, int8 (QDQ, {choice.method})"
    return trial.session_row(path, form, lambda s: decide_int8(s.accuracy, trial.own.accuracy, max_drop))
