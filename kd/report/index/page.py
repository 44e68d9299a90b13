"""``index.html``: write it from what a scan found, and read that back from it. It loads nothing from the network.

The data are JSON in the page, in which ``<`` is escaped: no name and no message can end its element. The scripts put
all of it into the page as text.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kd.report.index.scan import FORMAT, Index, Row
from kd.report.sweep.html import ASSETS as SHARED
from kd.report.sweep.html import document

NAME = "index.html"
ASSETS = Path(__file__).parent / "assets"
STYLES = (SHARED / "page.css", ASSETS / "index.css")
OWN = ("common", "columns", "filter", "table", "plot", "fronts", "curves", "main")
SCRIPTS = (SHARED / "theme.js", *(ASSETS / f"{name}.js" for name in OWN))


def html(index: Index, folder: Path, more: str = "", reload: float = 0.0) -> str:
    """Return the text of the page.

    Args:
        folder: the outputs folder, for its name. more: what a run's command needs besides to find this folder.
        reload: seconds after which the page opens itself again; 0: never.
    """
    data, curves = encode(index)
    about = {"made": round(time.time()), "more": more, "reload": reload}
    title = f"Runs in {folder.absolute().name}"
    body = (ASSETS / "index.html").read_text(encoding="utf-8")
    parts = [body.replace("{title}", escape(title)), _json("about", about), _json("data", data)]
    return document(title, STYLES, SCRIPTS, [*parts, _json("curve-data", curves)])


def _json(name: str, value: Any) -> str:
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def encode(index: Index) -> tuple[dict[str, Any], list[Any]]:
    """Return the data of the page: settings that all runs share once, and every curve once.

    Runs that share a teacher or a baseline have its curve in their metrics: its place in the list stands for it.
    """
    shared = _shared([run["settings"] for run in index.runs if run["settings"]])
    places: dict[str, int] = {}
    curves, runs = [], []
    for run in index.runs:
        at = {}
        for role, curve in run["curves"].items():
            text = json.dumps(curve)
            if text not in places:
                places[text] = len(curves)
                curves.append(curve)
            at[role] = places[text]
        own = {key: value for key, value in run["settings"].items() if key not in shared}
        runs.append(
            {key: value for key, value in run.items() if value not in (None, "", [])} | {"curves": at, "settings": own}
        )
    return {"format": FORMAT, "shared": shared, "runs": runs, "sweeps": index.sweeps}, curves


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that all runs have, with the same value."""
    shared = dict(settings[0]) if settings else {}
    for own in settings[1:]:
        shared = {key: value for key, value in shared.items() if key in own and own[key] == value}
    return shared


def read_rows(path: Path) -> dict[str, Row]:
    """Return the runs of a page by id, as the scan made them; {} if there is no page, or another format."""
    try:
        text = path.read_text(encoding="utf-8")
        data, curves = (_element(text, name) for name in ("data", "curve-data"))
        if data["format"] != FORMAT:
            return {}
        return dict(_decoded(data["runs"], data["shared"], curves))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


def _element(text: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no {name}")
    return json.loads(found[1])


def _decoded(runs: Iterable[Row], shared: Mapping[str, Any], curves: Sequence[Any]) -> Iterable[tuple[str, Row]]:
    for run in runs:
        if run.get("stamp"):
            own = {role: curves[place] for role, place in run["curves"].items()}
            yield run["id"], {**run, "curves": own, "settings": {**shared, **run["settings"]}}
