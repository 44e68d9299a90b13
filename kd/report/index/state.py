"""What became of a run, from its folder alone: finished, under way, interrupted, failed or damaged.

A sweep's jobs without a folder have states too, from its ledger: one may be refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from kd.records.run_folder import UNFINISHED, read_mark
from kd.store.files import find_damage
from kd.store.locks import is_held
from kd.store.store import KEY_DIGITS

FINISHED, UNDER_WAY, INTERRUPTED, FAILED, REFUSED, DAMAGED = STATES = (
    "finished",
    "under way",
    "interrupted",
    "failed",
    "refused",  # a job of a sweep: its method cannot work there
    "damaged",
)
KEY = re.compile(rf"-([0-9a-f]{{{KEY_DIGITS}}})$")


class State(NamedTuple):
    """What became of a run."""

    name: str  # one of STATES
    message: str = ""  # why it failed, or what is damaged


def state_of(folder: Path, outputs: Path) -> State:
    """Return the state of a run folder.

    An unfinished run is under way as long as a process holds its lock. Afterwards its mark says whether an error ended
    it: a killed process wrote none.
    """
    if (folder / UNFINISHED).exists():
        mark = read_mark(folder)
        key = str(mark.get("key") or key_of_name(folder.name))[:KEY_DIGITS]
        if key and is_held(outputs / ".locks" / f"run-{key}.lock"):
            return State(UNDER_WAY)
        return State(FAILED, str(mark["error"])) if mark.get("error") else State(INTERRUPTED)
    if not (folder / "result.json").is_file():
        return State(DAMAGED, "result.json is missing")
    damage = find_damage(folder)
    return State(DAMAGED, damage) if damage else State(FINISHED)


def key_of_name(name: str) -> str:
    """Return the key at the end of a run folder's name, "" if there is none."""
    found = KEY.search(name)
    return found[1] if found else ""


def read_result(folder: Path) -> dict[str, Any]:
    """Return the content of ``result.json``.

    Raises:
        ValueError: it is not a result of version 1.
    """
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if not isinstance(result, dict) or result.get("version") != 1:
        raise ValueError("it is not a result of version 1, the version that this page reads")
    return result
