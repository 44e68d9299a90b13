"""The share of a teacher's lead that a student recovered, as reports show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def gain_recovered(result: Mapping[str, Any]) -> float | None:
    """Return the recovered gain of a result; None if the teacher is no better than the baseline.

    Then there is nothing to recover, and the quotient would mislead.
    """
    teacher, baseline = result.get("teacher"), result["baseline"]
    leads = teacher and baseline and teacher["accuracy"] > baseline["accuracy"]
    return result["comparison"]["gain_recovered"] if leads else None
