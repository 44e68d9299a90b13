"""Read a W&B run back from its ``run-<id>.wandb``: what was really written, without a server.

The file is a log in LevelDB's format: 7 bytes of file header, then blocks of 32 KiB filled with chunks. A chunk is a
checksum, a length and a type (whole, first, middle or last part of a record), then its bytes; a record is a protobuf
message. wandb 0.31 has no reader in Python.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")  # crc32 of type and data, length of data, type
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Run:
    """What W&B knows of a run. ``exit_code`` is None for a run that did not end."""

    folder: Path
    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)  # metric or pattern -> its step metric
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> {"type", "files": {path: where}}
    kinds: set[str] = field(default_factory=set)
    exit_code: int | None = None


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, bytes) of every intact chunk; a torn end, left by a killed run, ends it."""
    if not data.startswith(FILE_HEADER):
        raise ValueError("not a .wandb file: it must begin with ':W&B'")
    at = len(FILE_HEADER)
    while at + CHUNK.size <= len(data):
        room = BLOCK - at % BLOCK
        if room < CHUNK.size:  # no chunk header is split: the rest of the block is padding
            at += room
            continue
        checksum, length, kind = CHUNK.unpack_from(data, at)
        body = data[at + CHUNK.size : at + CHUNK.size + length]
        if kind == 0 or len(body) < length:
            return
        if zlib.crc32(bytes([kind]) + body) != checksum:
            raise ValueError(f"the chunk at byte {at} does not fit its checksum")
        yield kind, body
        at += CHUNK.size + length


def records(data: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    parts: list[bytes] = []
    for kind, body in chunks(data):
        if kind in (WHOLE, FIRST):
            parts.clear()
        parts.append(body)
        if kind in (WHOLE, LAST):
            yield Record.FromString(b"".join(parts))


def fill(target: dict[str, Any], items: Iterable[Any]) -> dict[str, Any]:
    """Set the items of a config, history or summary message in ``target``."""
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        inner = target
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = json.loads(item.value_json)
    return target


def read_run(folder: Path) -> Run:
    """Read the run in ``folder`` (``.../wandb/offline-run-<time>-<id>``)."""
    (path,) = Path(folder).glob("run-*.wandb")
    run = Run(Path(folder))
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        run.kinds.add(kind)
        if kind == "run":
            about = record.run
            run.id, run.name, run.project = about.run_id, about.display_name, about.project
            run.group, run.job_type, run.tags = about.run_group, about.job_type, list(about.tags)
            fill(run.config, about.config.update)
        elif kind == "config":
            fill(run.config, record.config.update)
        elif kind == "history":
            run.history.append(fill({}, record.history.item))
        elif kind == "summary":
            fill(run.summary, record.summary.update)
        elif kind == "metric":
            run.steps[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        elif kind == "artifact":
            files = {entry.path: entry.local_path for entry in record.artifact.manifest.contents}
            run.artifacts[record.artifact.name] = {"type": record.artifact.type, "files": files}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    run.config.pop("_wandb", None)
    return run


def read_runs(root: Path) -> dict[str, Run]:
    """Read all offline runs below ``root/wandb``, by id; of a run that was started again, the last segment."""
    runs = [read_run(folder) for folder in sorted((Path(root) / "wandb").glob("offline-run-*"))]
    return {run.id: run for run in runs}
