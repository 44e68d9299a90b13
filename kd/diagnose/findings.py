"""What limits a run: rules over its figures, each with the sentence that it says and the setting to try.

A rule speaks only where its figure is far from what runs show in which distillation works: docs/diagnose.md lists those
that the thresholds were chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kd.config.weights import DROWNS
from kd.diagnose import advice
from kd.diagnose.figures import Figures, beside_labels, loudest, mean_share
from kd.diagnose.gain import FEW, MOST_SEEDS
from kd.records.run_folder import Rows

CLEAR = 0.05  # p below which a gain or a lead is more than noise
LEAST_LEAD = 0.01  # of the teacher: half of a lead is what students usually win (experiments/methods.md)
SHARP = 0.08  # mean probability beside the first class below which answers say less than labels smoothed by 0.1
UNHEARD = 0.05  # share of the gradients below which all terms beside the labels change next to nothing
SILENT = 0.01  # the same, below which a gain is none of theirs, however significant on these test images
DISTRACTED = 0.05  # accuracy on training views by which a student trails its baseline: its terms harm the labels
UNDERFIT = 0.05  # the same by which student and baseline trail the teacher, in a run without a clear gain
UNDERFIT_THOUGH_HELPED = 0.15  # in a run with one: a small student trails in every run
FITS = 0.05  # accuracy on training views above that on test images: more is learned by heart, so it does not underfit
OVERFIT = 0.10  # the same, from which a student is said to overfit
LEARNED_BY_HEART = 0.10  # the same of a teacher
SURER = 2.0  # times as much probability beside the first class on test images as on training views


class Finding(NamedTuple):
    """One thing that limits a run."""

    name: str
    sentence: str  # with the figure that carries it
    settings: tuple[str, ...]  # overrides to try, as typed


def find(figures: Figures, result: Mapping[str, Any]) -> list[Finding]:
    """Return what limits a run, the most likely cause first; [] for a run in which distillation works.

    Args:
        figures: of ``kd.diagnose.figures.measure``. result: result.json.
    """
    rules = [underfits]
    if not helps(figures):
        rules = [teacher_no_better, drowned, unheard, sharp, teacher_overfits, underfits, overfits]
    found = [finding for rule in rules if (finding := rule(figures, result))]
    return found + [finding for finding in [loses(figures, result, found), noise(figures, result)] if finding]


def helps(figures: Figures) -> bool:
    """Whether the student gained more than the choice of test images explains, from terms that were heard."""
    return _gains(figures) and _heard(figures) >= SILENT


def _gains(figures: Figures) -> bool:
    gain = figures["gain"]
    return bool(gain and gain["accuracy"] > 0 and gain["p"] < CLEAR)


def _heard(figures: Figures) -> float:
    """Return the mean share of the gradients of all terms beside the labels; 1 where nobody knows, or has to."""
    measured, labels = figures["gradients"], figures["objective"]["label_terms"]
    others = _added(measured or (), labels)
    return mean_share(measured, others) if others and labels else 1.0


def _added(measured: Rows, labels: Sequence[str]) -> list[str]:
    """Return the terms that were active at any moment, without the labels'."""
    return [name for name in dict.fromkeys(name for at in measured for name in at["terms"]) if name not in labels]


def harms(figures: Figures) -> bool:
    """Whether the student lost more than the choice of test images explains."""
    gain = figures["gain"]
    return bool(gain and gain["accuracy"] < 0 and gain["p"] < CLEAR)


def leads(gain: Mapping[str, Any]) -> bool:
    """Whether the teacher has a lead over the baseline that a student could win a part of."""
    return gain["lead"] >= LEAST_LEAD or (gain["lead"] > 0 and gain["lead_p"] < CLEAR)


def teacher_no_better(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The teacher does not lead the baseline."""
    gain = figures["gain"]
    if not gain or "lead" not in gain:
        return None
    lead = gain["lead"]
    if leads(gain):
        return None
    teacher, baseline = (percent(figures["accuracy"][role]["test"]) for role in ("teacher", "baseline"))
    how = "is no better than" if lead <= 0 else f"leads by only {points(lead)} over"
    sentence = (
        f"The teacher ({teacher} % on the test images) {how} the same student without it ({baseline} %): there is "
        "next to nothing to be gained from it. Train it longer, or take a larger or a pretrained one "
        "(python -m kd.zoo teachers)."
    )
    return Finding("teacher no better", sentence, advice.better_teacher(result))


def drowned(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """A term pulls so hard, and elsewhere, that the labels are hardly learned."""
    objective = figures["objective"]
    found = loudest(figures["gradients"] or [], objective["label_terms"])
    if found is None or found[2] < DROWNS * found[3]:
        return _distracted(figures, result)
    name, moment, share, own = found
    progress = moment["progress"]
    when = "before the first step" if not progress else f"after {100 * progress:.0f} % of the training"
    sentence = (
        f"The labels are drowned by {name}: {when} it has {percent(share)} % of the gradient on the student, and they "
        f"have {percent(own)} %. Lower its weight."
    )
    return Finding("labels drowned", sentence, advice.balanced_weights(result, objective, moment, [name], higher=False))


def _distracted(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The student learned its training images less well than its baseline: the effect, where the cause is unknown.

    A student that does not learn wrong labels by heart trails there too, so it must have lost on test images as well.
    A teacher that is no better explains it.
    """
    scores, labels = figures["accuracy"], figures["objective"]["label_terms"]
    if not labels or "baseline" not in scores or scores["student"]["views"] is None:
        return None
    student, baseline = scores["student"]["views"], scores["baseline"]["views"]
    if baseline - student < DISTRACTED or not harms(figures) or teacher_no_better(figures, result):
        return None
    sentence = (
        f"The labels are drowned: on the training views that it learned from the student has {percent(student)} % "
        f"right, the same student on labels alone {percent(baseline)} %. Lower the weight of what is added to them."
    )
    return Finding("labels drowned", sentence, advice.tenth_weights(result, figures["objective"]))


def unheard(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """All terms beside the labels together pull next to nothing."""
    share, measured, labels = _heard(figures), figures["gradients"], figures["objective"]["label_terms"]
    if share >= UNHEARD:
        return None
    others = _added(measured, labels)
    moment = next((at for at in beside_labels(measured, labels) if {*others} & {*at["terms"]}), measured[0])
    by_chance = _gains(figures) and f" So the gain of {points(figures['gain']['accuracy'])} is chance: try other seeds."
    sentence = (
        f"The labels drown what is added to them: {' and '.join(others)} {'has' if len(others) == 1 else 'have'} "
        f"{100 * share:.2g} % of the gradient on the student. Raise the weight.{by_chance or ''}"
    )
    settings = advice.balanced_weights(result, figures["objective"], moment, others, higher=True)
    return Finding("teacher unheard", sentence, settings)


def sharp(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The teacher's answers are as good as labels at this temperature."""
    temperature, answers = figures["objective"]["temperature"], figures["answers"]
    if temperature is None or not answers:
        return None
    split = "views" if answers["views"] else "test"
    beside = answers[split]["beside_first"]
    if beside >= SHARP or _learned_by_heart(figures):
        return None
    where = "training views" if split == "views" else "test images"
    sentence = (
        f"The teacher's answers are too sharp at T = {temperature:g}: on {where} all classes beside its first have "
        f"{percent(beside)} % of the probability (the entropy is {percent(answers[split]['entropy'])} % of log K), so "
        "they say little beyond which class comes first. Raise the temperature."
    )
    return Finding("answers too sharp", sentence, advice.softer(result, answers[split]["softer"]))


def _learned_by_heart(figures: Figures) -> bool:
    scores, answers = figures["accuracy"]["teacher"], figures["answers"]
    if scores["views"] is None or scores["views"] - scores["test"] < LEARNED_BY_HEART:
        return False
    return answers["test"]["beside_first"] >= SURER * answers["views"]["beside_first"]


def teacher_overfits(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The teacher is sure of its training images because it has seen them, so that it says nothing of them."""
    if not figures["answers"] or not _learned_by_heart(figures):
        return None
    scores, answers = figures["accuracy"]["teacher"], figures["answers"]
    sentence = (
        f"The teacher knows its training images by heart: {percent(scores['views'])} % right on training views, "
        f"{percent(scores['test'])} % on test images, with {percent(answers['views']['beside_first'])} % and "
        f"{percent(answers['test']['beside_first'])} % of the probability beside its first class. So its answers "
        "resemble the labels where the student learns from them. Ask it about images that it has not seen: "
        f"{advice.sources_of_images(result, figures['objective'])}."
    )
    return Finding("teacher overfits", sentence, advice.new_images(result, figures["objective"]))


def underfits(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The student does not even learn what it is shown, and would not without a teacher."""
    scores = figures["accuracy"]
    if scores["student"]["views"] is None or not figures["answers"]:
        return None
    student, teacher, alone = scores["student"], scores["teacher"]["views"], scores.get("baseline")
    best = max(student["views"], alone["views"] if alone else 0.0)
    if (
        teacher - best < (UNDERFIT_THOUGH_HELPED if helps(figures) else UNDERFIT)
        or student["views"] - student["test"] > FITS
    ):
        return None
    same = f" (the baseline {percent(alone['views'])} %)" if alone else ""
    sentence = (
        f"The student underfits: it has {percent(student['views'])} % right on the training views that it learned "
        f"from{same}, its teacher {percent(teacher)} %. Train it longer, or take a larger student."
    )
    return Finding("student underfits", sentence, advice.more_capacity(result))


def overfits(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The student learns its training images by heart."""
    student = figures["accuracy"]["student"]
    if student["views"] is None or student["views"] - student["test"] < OVERFIT:
        return None
    sentence = (
        f"The student overfits: {percent(student['views'])} % right on training views, {percent(student['test'])} % on "
        f"test images. Give it more different images: {advice.sources_of_images(result, figures['objective'])}."
    )
    return Finding("student overfits", sentence, advice.new_images(result, figures["objective"]))


def loses(figures: Figures, result: Mapping[str, Any], others: list[Finding]) -> Finding | None:
    """The student is clearly worse than its baseline, and nothing else explains it."""
    gain = figures["gain"]
    if others or not harms(figures):
        return None
    sentence = (
        f"The student lost {points(-gain['accuracy'])} against its baseline ({chance(gain['p'])}), and no figure "
        "here says why. Try a lower weight, or another method."
    )
    return Finding("student loses", sentence, advice.half_weights(result, figures["objective"]))


def noise(figures: Figures, result: Mapping[str, Any]) -> Finding | None:
    """The gain may be chance."""
    gain = figures["gain"]
    if not gain or gain["p"] < CLEAR:
        return None
    change = "gain" if gain["accuracy"] >= 0 else "loss"
    head = f"The {change} of {points(abs(gain['accuracy']))} is within noise: {chance(gain['p'])} by McNemar's test on "
    head += f"{gain['images']:,} test images, one seed."
    seeds, images = gain["seeds_to_tell"], gain["images_to_tell"]
    if seeds:
        tail = f"If it is real, {seeds} seeds show it (four times in five)."
    elif images:
        tail = f"So small a {change} needs more test images: about {_rounded(images):,} with {FEW} seeds."
    else:
        tail = f"So small a difference is less than seeds usually differ: {MOST_SEEDS} of them would not show it."
    return Finding("within noise", f"{head} {tail}", advice.more_seeds(result, seeds or (FEW if images else None)))


def _rounded(count: int) -> int:
    """Round up to two digits."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step


def percent(value: float) -> str:
    """``0.8512`` -> "85.1"."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    return f"{100 * value:.2f} points"


def chance(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
