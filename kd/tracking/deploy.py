"""An exported student as an artifact of its W&B run, beside the run's own metrics.

The artifact has the type ``model``, and its metadata hold the numbers of the run and of each file. The same numbers are
in the run's summary as ``deploy/<file>/<number>``, for tables and plots.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.runtime.console import display_path
from kd.store.store import KEY_DIGITS
from kd.tracking.guard import Guard, error_line
from kd.tracking.names import artifact_metadata, init_arguments, run_summary
from kd.tracking.redact import redact
from kd.tracking.wandb_environment import wandb_dirs
from kd.tracking.wandb_files import RunSegments, has_unsynced
from kd.tracking.wandb_run import MODES, WandbRun

NUMBERS = ("accuracy", "agreement", "nll", "size_bytes", "largest_difference", "ships")  # of a file in report.json
MOVED = "W&B does not have the exported files: the run was moved out of the outputs folder from which it was logged"
KEPT = "artifacts/deploy"  # in a segment: the files of the artifact


def log_deploy(run: Path, deploy: Path, report: Mapping[str, Any]) -> str | None:
    """Log an exported folder to the W&B run of its run, offline or online as the run was tracked.

    Args:
        run: the folder of the run. report: the content of ``report.json``; entries may be missing or None.

    Returns:
        A line that says what was done, or what failed; None: the run was not tracked, or under an id that a ``wandb
        agent`` assigned, which its folder does not hold.
    """
    try:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        arguments, mode, timeout = _of_run(result)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if mode not in MODES[:2]:
        return None
    root, name = run.absolute().parent.parent, _name_of(arguments)
    if not _holds(root, name):
        recorded = Path(str(result["settings"].get("outputs") or "outputs")).expanduser()
        moved = _holds(recorded, name)
        return MOVED if moved else None
    guard = Guard()
    with wandb_dirs(root):
        try:
            opened = WandbRun(root, arguments, role="student", mode=mode, timeout=timeout, guard=guard)
            return _log(opened, deploy, result, report)
        except Exception as error:
            return f"W&B failed, so it does not have the exported files: {error_line(error)}"


def _of_run(result: Mapping[str, Any]) -> tuple[dict[str, Any], str, float]:
    """Return the arguments of ``wandb.init``, the mode and the timeout with which the run was tracked."""
    settings = result["settings"]
    choices = {f"choices.{group}": option for group, option in result["choices"].items()}
    arguments = init_arguments(
        run_id=result["key"][: 2 * KEY_DIGITS],
        name=result["name"],
        config={**settings, **choices},
        group=settings.get("tracking.group"),
        job_type="distill",
        tags=settings.get("tracking.tags") or [],
        project=settings["tracking.project"],
        entity=settings.get("tracking.entity"),
    )
    return arguments, settings["tracking.mode"], settings.get("tracking.timeout", 10.0)


def _name_of(arguments: Mapping[str, Any]) -> str:
    return "-".join(filter(None, (arguments["entity"], arguments["project"], arguments["id"])))


def _holds(root: Path, name: str) -> bool:
    """Whether W&B files of a run are in an outputs folder."""
    return (root / "wandb/logged" / f"{name}.segments").is_file()


def _log(run: WandbRun, deploy: Path, result: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    if run.claim.lock() is False:
        return "W&B does not have the exported files: another job is logging this run"
    try:
        marker = run.claim.path()
        if marker.exists() and marker.read_text(encoding="utf-8") in MODES[:2]:
            run.mode = marker.read_text(encoding="utf-8")  # of its last tracking, which its config may precede
        run.reopen()
        segments = RunSegments(run.claim.path(".segments"), run.segment.parent, run.arguments["id"])
        segments.remove_superseded(KEPT)
        name, numbers = f"deploy-{run.arguments['id']}", deploy_numbers(report)
        metadata = artifact_metadata(result, "student") | numbers
        summary = run_summary(result, "student") | {f"deploy/{key}": value for key, value in numbers.items()}
        sent = run.add(lambda segment: _artifact(name, deploy, segment, metadata, result["name"]), summary)
        url = run.url
        whole = run.end(exit_code=0 if sent else 1)
        if not sent:
            return "W&B failed, so it does not have the exported files (see above)"
        look = url or f"wandb leet {display_path(run.segment.parent)}"
        send = "" if url and whole else f"; send: {_sync_command(run, segments)}"
        return f"W&B: {deploy.name}/ is the artifact {name} of its run; look: {look}{send}"
    finally:
        run.claim.release()


def deploy_numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of ``report.json`` under flat names: ``student.onnx/accuracy``; unknown ones are left out."""
    entries = {"torch": report.get("torch"), "folded": report.get("folded")}
    entries |= {each["file"]: each for each in report.get("files") or []}
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        entry = entry or {}
        found |= {f"{name}/{number}": entry[number] for number in NUMBERS if entry.get(number) is not None}
        for threads, batches in (entry.get("latency_ms") or {}).items():
            for batch, times in (batches or {}).items():
                if times and times.get("calm", True) and times.get("p50") is not None:
                    found[f"{name}/latency_ms/{threads}/{batch}"] = times["p50"]
    return found


def _artifact(name: str, deploy: Path, segment: Path, metadata: Mapping[str, Any], run: str) -> Any:
    """Return the artifact of a folder. Its files are copied into the segment: a later export writes over them."""
    import wandb

    description = f"The student of {redact(run)}, exported by kd: the files that ship, their report and a model card."
    artifact = wandb.Artifact(name, type="model", metadata=dict(metadata), description=description)
    kept = segment / KEPT
    shutil.copytree(deploy, kept, dirs_exist_ok=True)
    for path in sorted(path for path in kept.rglob("*") if path.is_file()):
        artifact.add_file(str(path), name=path.relative_to(kept).as_posix(), policy="immutable")
    return artifact


def _sync_command(run: WandbRun, segments: RunSegments) -> str:
    """Return the command that sends all of the run's segments that no server has."""
    unsent = [each for each in segments.present() if each in run.unsynced or _is_unsent(each)]
    online = any(not segment.name.startswith("offline-") for segment in unsent)
    return f"wandb sync {'--include-online ' * online}{' '.join(map(display_path, unsent))}"


def _is_unsent(segment: Path) -> bool:
    return segment.name.startswith("offline-") and has_unsynced(segment)
