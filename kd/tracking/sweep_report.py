"""The report of a sweep as a W&B run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.tracking.names import drop_free_text
from kd.tracking.tracker import Tracker


def publish_report(
    root: str | Path,
    *,
    run_id: str,
    name: str,
    config: Mapping[str, Any],
    figures: Mapping[str, Path],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    summary: Mapping[str, Any],
    **tracking: Any,
) -> str:
    """Log a sweep's report as a W&B run with job type "report"; return how to view it and how to send it.

    Args:
        run_id: the same for the same sweep, so that a repeated report replaces the earlier one.
        figures: logged as ``sweep/<key>``. tables: as ``<key>``. summary: nested, see ``flatten_result``.
        tracking: group, mode, project, entity, tags, timeout, as in ``Tracker``.

    Free text in config and tables stays on this machine.
    """
    tables = {key: list(map(drop_free_text, rows)) for key, rows in tables.items()}
    about = {"run_id": run_id, "name": name, "config": drop_free_text(config), "job_type": "report", "role": None}
    with Tracker(None, root=root, **about, **tracking) as tracker:
        tracker.finish(summary, figures, tables, {})
    return tracker.hint()
