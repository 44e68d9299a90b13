"""The figures of a diagnosis as rows of text, for the terminal and for the report."""

from __future__ import annotations

from typing import NamedTuple

from kd.diagnose.figures import Figures

NAMES = {"views": "training views", "val": "validation", "test": "test images"}
DASH = "–"
CLASSES = 20  # more are not listed


class Table(NamedTuple):
    title: str
    rows: list[dict[str, str]]
    note: str = ""


def tables(figures: Figures) -> list[Table]:
    """Return the tables of a diagnosis; those that a run has no figures for are left out."""
    made = [accuracy(figures), teacher_answers(figures), agreement(figures), by_class(figures), gradients(figures)]
    return [table for table in made if table]


def accuracy(figures: Figures) -> Table:
    rows = [
        {"network": role, **{f"{NAMES[split]} (%)": percent(value) for split, value in of.items()}}
        for role, of in figures["accuracy"].items()
    ]
    note = (
        "Training views: a sample of the training images as the student saw them in its last epoch, in eval mode. "
        "Validation: the epoch that was kept."
    )
    return Table("Accuracy", rows, note)


def teacher_answers(figures: Figures) -> Table | None:
    answers = figures["answers"]
    if not answers:
        return None
    shown = {split: of for split, of in answers.items() if of}
    temperature = next(iter(shown.values()))["temperature"]
    rows = [
        {"on": NAMES[split]}
        | {"entropy": percent(of["entropy"]), "beside first": percent(of["beside_first"])}
        | {"entropy beside": percent(of["rest_entropy"])}
        | {"confidence": percent(of["confidence"]), "ECE": percent(of["ece"])}
        for split, of in shown.items()
    ]
    heard = figures["objective"]["temperature"]
    note = (
        "Entropy: share of log K. Beside first: the mean probability of all classes but the likeliest. Entropy beside: "
        "how evenly it spreads among them, share of log(K − 1). Confidence (the mean probability of the likeliest) and "
        "ECE are at T = 1." + (" The method has no temperature for the teacher's logits." if heard is None else "")
    )
    return Table(f"The teacher's answers at T = {temperature:g}, in percent", rows, note)


def agreement(figures: Figures) -> Table | None:
    agreements = figures["agreement"]
    if not agreements:
        return None
    rows = [
        {"network": role, **{f"{NAMES[split]} (%)": percent(value) for split, value in agreements[role].items()}}
        for role in ("student", "baseline")
        if role in agreements
    ]
    return Table("Agreement with the teacher", rows, "Share of images with the same predicted class, right or wrong.")


def by_class(figures: Figures) -> Table | None:
    if not figures["agreement"] or len(figures["agreement"]["by_class"]) > CLASSES:
        return None
    shares = figures["agreement"]["by_class"]
    ordered = sorted(shares, key=lambda name: 2.0 if shares[name] is None else shares[name])
    rows = [{"class": name, "student agrees (%)": percent(shares[name])} for name in ordered]
    return Table("Agreement of student and teacher by class, on test images", rows)


def gradients(figures: Figures) -> Table | None:
    measured = figures["gradients"]
    if not measured:
        return None
    rows = [
        {"at": f"{100 * at['progress']:.0f} % of the training", "term": name}
        | {
            "share (%)": percent(of["share"]),
            "norm": digits(of["norm"]),
            "cosine with the labels": signed(of["cosine"]),
        }
        for at in measured
        for name, of in at["terms"].items()
    ]
    return Table("Gradient of each weighted term on the student", rows)


def gained(figures: Figures) -> str:
    """Return sentences on what could be gained, and was; "" without teacher or baseline."""
    gain = figures["gain"]
    if not gain or "can_gain" not in gain:
        return ""
    won = f"The student won {gain['gained']:,} of these ({share(gain['gained'], gain['can_gain'])})"
    others = f", and {gain['other_gains']:,} that teacher and baseline have wrong" if gain["other_gains"] else ""
    return (
        f"The teacher is right and the baseline wrong on {gain['can_gain']:,} of {gain['images']:,} test images: that "
        f"is all that can be gained from it. {won}{others}. Of {gain['can_lose']:,} images that the baseline has right "
        f"it lost {gain['lost']:,}, {gain['lost_with_teacher']:,} of them together with the teacher."
    )


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else DASH


def percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def digits(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g}"


def signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2f}".replace("-", "−")
