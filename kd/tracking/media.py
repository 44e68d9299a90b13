"""Figures, tables and network files as wandb objects."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.tracking.guard import Guard
from kd.tracking.names import to_python
from kd.tracking.redact import redact


def load_media(
    section: str, figures: Mapping[str, Path], tables: Mapping[str, Sequence[Mapping[str, Any]]], guard: Guard
) -> dict[str, Any]:
    """Return figures as ``<section>/<key>`` and tables as ``<key>``; one that fails is left out with a warning."""
    import wandb

    media: dict[str, Any] = {}
    for key, path in figures.items():
        with guard.catch(f"reading figure {key}"):
            media[f"{section}/{key}"] = wandb.Image(str(path))
    for key, rows in tables.items():
        with guard.catch(f"making table {key}"):
            columns = list(dict.fromkeys(column for row in rows for column in row))
            cells = [[redact(to_python(row.get(column)), column) for column in columns] for row in rows]
            media[key] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
    return media


def make_artifact(name: str, path: Path, segment: Path, metadata: Mapping[str, Any]) -> Any:
    """Return a ``wandb.Artifact`` of a network's file, which is hard-linked into the segment."""
    import wandb

    kept = segment / "artifacts" / path.name
    kept.parent.mkdir(exist_ok=True)
    try:
        os.link(path, kept)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, kept)
    artifact = wandb.Artifact(name, type="model", metadata=dict(metadata))
    artifact.add_file(str(kept), name=path.name, policy="immutable")
    return artifact
