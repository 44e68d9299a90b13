"""The diagnosis of a run: its figures, what they say in plain sentences, and what could not be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kd.diagnose.evidence import Evidence
from kd.diagnose.figures import Figures, measure
from kd.diagnose.findings import Finding, chance, find, harms, helps, leads, percent, points
from kd.records.run_folder import roles_of


class Diagnosis(NamedTuple):
    """What limits a run."""

    evidence: Evidence
    figures: Figures
    verdict: str  # one sentence: whether distillation helps
    findings: list[Finding]  # [] if nothing is wrong
    remarks: list[str]  # what the run lacks, and what is compared

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        result = self.evidence.result
        return {
            **{"version": 1, "name": result["name"], "key": result["key"], "verdict": self.verdict},
            "findings": [finding._asdict() | {"settings": list(finding.settings)} for finding in self.findings],
            "remarks": self.remarks,
            "figures": self.figures,
        }


def diagnose(evidence: Evidence) -> Diagnosis:
    """Say what limits a run."""
    figures = measure(evidence)
    findings = find(figures, evidence.result)
    return Diagnosis(evidence, figures, _verdict(figures, findings), findings, _remarks(evidence, figures))


def _verdict(figures: Figures, findings: list[Finding]) -> str:
    gain, what = figures["gain"], "Distillation" if figures["answers"] else "The method"
    if not gain:
        return f"Without a baseline a run cannot say whether {what.lower()} helps (baseline=true)."
    if harms(figures):
        return f"{what} harms here: {points(-gain['accuracy'])} less than the baseline ({chance(gain['p'])})."
    if not helps(figures):
        return f"{what} does not clearly help here."
    has_lead = "lead" in gain and leads(gain)
    share = f", {percent(gain['accuracy'] / gain['lead'])} % of the teacher's lead" if has_lead else ""
    found = "" if findings else " Nothing stands in its way."
    return f"{what} helps: {points(gain['accuracy'])} over the baseline ({chance(gain['p'])}){share}.{found}"


def _remarks(evidence: Evidence, figures: Figures) -> list[str]:
    remarks, result = [], evidence.result
    if not figures["answers"]:
        method = result["choices"].get("kd", "this method")
        remarks.append(
            f"There is no teacher: {_nobody_reads(result, method)}. Compared are the student and its baseline"
            f"{', the same network that learned from the labels alone' if 'baseline' in roles_of(result) else ''}."
        )
    if evidence.views is None:
        remarks.append(
            "The run has no training_views.npz, because an older version made it: nothing is said of training views. "
            "Delete its folder and repeat its command: the networks are reused, and the file is written."
        )
    if figures["gradients"] is None:
        remarks.append("The gradients of its terms were not measured: nothing is said of their shares.")
    return remarks


def _nobody_reads(result: Mapping[str, Any], method: str) -> str:
    settings = result.get("settings") or {}
    if any(key.startswith("kd.weights.") and value == 0 for key, value in settings.items()):
        return f"no term of kd={method} with a weight above 0 reads one"
    return f"kd={method} reads none"
