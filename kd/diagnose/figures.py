"""The figures of a diagnosis: pure functions of what a run has. All shares and accuracies are in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.config.weights import ASIDE
from kd.diagnose import answers
from kd.diagnose.evidence import Evidence
from kd.diagnose.gain import gains_and_losses, images_to_tell, images_won, seeds_to_tell
from kd.diagnose.objective import objective_of
from kd.evaluation.metrics import accuracy, agreement, ece, mcnemar
from kd.records.run_folder import Rows, roles_of

Figures = dict[str, Any]
SPLITS = ("views", "test")  # where logits are at hand
EARLY = 0.15  # share of the training: the measurements at its start and at a tenth, not the one at its end
SOFT = 0.3  # mean probability beside the first class of answers that say enough


def measure(evidence: Evidence) -> Figures:
    """Return all figures of a run; a part that it lacks is None.

    Keys: "objective", "accuracy" (role -> split), "answers" (split), "gain", "agreement", "gradients".
    """
    result = evidence.result
    objective = objective_of(result)
    taught = "teacher" in roles_of(result) and objective["reads"] != []
    return {
        "objective": objective,
        "accuracy": accuracies(evidence),
        "answers": teacher_answers(evidence, objective["temperature"] or 1.0) if taught else None,
        "gain": gain(evidence, taught),
        "agreement": agreements(evidence) if taught else None,
        "gradients": gradients(evidence.metrics) or None,
    }


def accuracies(evidence: Evidence) -> dict[str, dict[str, float | None]]:
    """Return the accuracy of each role on training views, validation and test images, and the confidence there."""
    return {
        role: {
            "views": accuracy(evidence.views[role], evidence.views["target"]) if evidence.views else None,
            "val": evidence.result[role]["training"]["best_val_accuracy"],
            "test": evidence.result[role]["accuracy"],
        }
        for role in roles_of(evidence.result)
    }


def teacher_answers(evidence: Evidence, temperature: float) -> dict[str, dict[str, float | None] | None]:
    """Return what the teacher's answers hold, by split: see ``kd.diagnose.answers``."""
    found: dict[str, dict[str, float | None] | None] = {}
    for split, arrays in zip(SPLITS, (evidence.views, evidence.test), strict=True):
        found[split] = arrays and {
            "temperature": temperature,
            "entropy": answers.entropy_share(arrays["teacher"], temperature),
            "beside_first": answers.mass_beside_first(arrays["teacher"], temperature),
            "rest_entropy": answers.rest_entropy_share(arrays["teacher"], temperature),
            "confidence": answers.confidence(arrays["teacher"]),
            "ece": ece(arrays["teacher"], arrays["target"]),
            "softer": answers.temperature_for(arrays["teacher"], SOFT),  # T at which the answers say enough
        }
    return found


def gain(evidence: Evidence, taught: bool) -> dict[str, Any] | None:
    """Return the gain over the baseline, its chance, what could be gained, and what would tell; None without one."""
    if "baseline" not in roles_of(evidence.result):
        return None
    test, target = evidence.test, evidence.test["target"]
    right = {role: test[role].argmax(-1) == target for role in roles_of(evidence.result)}
    points = float(right["student"].mean() - right["baseline"].mean())
    differ = float((right["student"] != right["baseline"]).mean())
    found = {
        "accuracy": points,
        "p": mcnemar(test["student"], test["baseline"], target),
        "differ": differ,
        "images": len(target),
        "seeds_to_tell": seeds_to_tell(points, differ, len(target)),
        "images_to_tell": images_to_tell(points, differ),
    }
    if taught:
        lead = float(right["teacher"].mean() - right["baseline"].mean())
        found |= {"lead": lead, "lead_p": mcnemar(test["teacher"], test["baseline"], target)}
        found |= gains_and_losses(target, test) | images_won(target, test)
    return found


def agreements(evidence: Evidence) -> dict[str, Any]:
    """Return the share of images on which student and baseline answer as the teacher does: by split, and by class.

    The agreement of student and teacher is the fidelity of Stanton et al. 2021 (https://arxiv.org/abs/2106.05945). The
    baseline's is what two networks agree on that learned from the same labels.
    """
    found: dict[str, Any] = {}
    for role in (role for role in ("student", "baseline") if role in roles_of(evidence.result)):
        found[role] = {
            split: agreement(arrays[role], arrays["teacher"]) if arrays else None
            for split, arrays in zip(SPLITS, (evidence.views, evidence.test), strict=True)
        }
    same = evidence.test["student"].argmax(-1) == evidence.test["teacher"].argmax(-1)
    names, target = evidence.result["data"]["classes"], evidence.test["target"]
    by_class = [float(same[target == k].mean()) if (target == k).any() else None for k in range(len(names))]
    return {**found, "by_class": dict(zip(names, by_class, strict=True))}


def gradients(metrics: Rows) -> list[dict[str, Any]]:
    """Return where gradients of the student's terms were measured, in the order of the training.

    Each is ``{"progress": p, "terms": {name: {"norm", "share", "cosine"}}}``.
    """
    found = {each["progress"]: each for row in metrics if row.get("stage") == "student" for each in _measured(row)}
    return [found[progress] for progress in sorted(found)]


def _measured(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return row.get("gradients") or []


def beside_labels(measured: Rows, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the moments at which a label term was active; a schedule may begin or end with other terms alone."""
    return [at for at in measured if any(name in at["terms"] for name in labels)]


def loudest(measured: Rows, labels: Sequence[str]) -> tuple[str, dict[str, Any], float, float] | None:
    """Return the added term with the longest gradient over that of the labels, early in the training.

    A term that pulls the way of the labels is left out, and so are moments without labels. A student that has learned
    its labels has next to no gradient of theirs at the end, so only the first step and the tenth of the training count.

    Returns:
        Its name, the moment, its share of the gradients there, the labels' share; None without such a term.
    """
    found = [
        (name, at, of["share"] or 0.0, mean_share([at], labels))
        for at in beside_labels(measured, labels)
        if at["progress"] <= EARLY
        for name, of in at["terms"].items()
        if name not in labels and (of["cosine"] or 0.0) <= ASIDE
    ]
    return max(found, key=lambda each: each[2] / max(each[3], 1e-9), default=None)


def mean_share(measured: list[dict[str, Any]], names: Sequence[str]) -> float:
    """Return the mean over the training of the share that some terms have of the norms of all gradients."""
    return float(np.mean([sum(at["terms"].get(name, {}).get("share") or 0.0 for name in names) for at in measured]))
