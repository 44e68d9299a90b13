"""``kd.load``: a network of a run, ready for images. Weights only, and without Hydra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kd.inference.assemble import assemble
from kd.inference.description import Description
from kd.inference.model import Model
from kd.inference.safetensors_file import read_metadata
from kd.models.normalized import Normalized
from kd.models.weights import load_weights
from kd.records.run_folder import MODELS, UNFINISHED
from kd.runtime.errors import first_line
from kd.runtime.text import did_you_mean

ROLES = ("student", "teacher", "baseline")
DEPLOYED = "model.safetensors"  # of the folder that kd.export writes


def load(run: str | Path, which: str = "student", trusted: bool = False) -> Model:
    """Return a trained network in eval mode that takes images [B, 3, H, W] in [0, 1].

    ``model.preprocess(pictures)`` makes such images, ``model.classes`` names the logits.

    Args:
        run: the folder of a run, its ``student.safetensors`` alone, or the folder ``deploy/`` of ``kd.export``.
        which: "student", "teacher" or "baseline". The weights of the last two lie in the outputs folder of the run.
        trusted: build networks of code outside kd, too: your own students.

    Raises:
        FileNotFoundError: no such run, or the weights are not there.
        ValueError: not a run, a damaged file, or a network that cannot be built; says what would be right.
    """
    path = Path(run).expanduser()
    if which not in ROLES:
        raise ValueError(f"which must be one of {', '.join(ROLES)}, got {which!r}{did_you_mean(str(which), ROLES)}")
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: name the folder of a run, such as outputs/runs/NAME")
    if path.is_dir() and not (path / DEPLOYED).is_file():
        return _load_from_run(path, which, trusted)
    file = path / DEPLOYED if path.is_dir() else path
    description = Description.from_metadata(read_metadata(file), str(file))
    if which != description.role:
        raise ValueError(f"{file} holds the {description.role} alone; its run's folder leads to the {which}")
    return Model(_with_weights(description, [file], trusted), description)


def _load_from_run(folder: Path, which: str, trusted: bool) -> Model:
    entries = read_models(folder)
    if which not in entries:
        raise ValueError(f"{folder} has no {which}; it has {', '.join(entries)}")
    entry = entries[which]
    description = Description.from_dict(entry, f"{folder / MODELS}: {which}")
    try:
        files = [folder / file for file in entry["files"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / MODELS}: {which} does not name its files") from error
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"the weights of the {which} are not at {file}: keep {folder.name} in the outputs folder that holds "
                "its teachers and students, or run its command again"
            )
    return Model(_with_weights(description, files, trusted), description)


def read_models(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the networks of a run by role: fields of ``Description``, and "files", relative to the folder.

    Raises:
        ValueError: not the folder of a finished run, or a damaged file.
    """
    path = folder / MODELS
    if (folder / UNFINISHED).exists():
        raise ValueError(f"{folder} is a run that has not finished: run its command again")
    if not path.is_file():
        raise ValueError(_not_a_run(folder))
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{path} is damaged: it must hold an object for each network")
    return entries


def _not_a_run(folder: Path) -> str:
    if (folder / "result.json").is_file():
        return f"{folder} was made by an earlier kd and has no {MODELS}: run its command again to add it"
    if (folder / "sweep.json").is_file():
        return f"{folder} is a sweep: name one of its runs, outputs/runs/NAME"
    inner = folder / "runs"
    example = next((path for path in sorted(inner.iterdir()) if path.is_dir()), None) if inner.is_dir() else None
    return f"{folder} is not the folder of a run" + (f": name one in it, such as {example}" if example else "")


def _with_weights(description: Description, files: list[Path], trusted: bool) -> Any:
    """Return the network of a description with the weights of its files, one for each member of an ensemble."""
    network = assemble(description.network, description.classes, description.image_size, trusted)
    members = list(network.members) if "ensemble" in description.network else [network]
    if len(members) != len(files):
        raise ValueError(f"{len(members)} networks need as many files of weights, got {len(files)}")
    for member, file in zip(members, files, strict=True):
        _load_into(member, file, description)
    return network


def _load_into(network: Normalized, file: Path, description: Description) -> None:
    if description.mean and description.std:
        network.normalize_by(description.mean, description.std)
    try:
        has_statistics = load_weights(network, file)
    except ValueError as error:  # its further lines advise authors of other programs
        raise ValueError(first_line(error)) from error
    if not has_statistics and not description.mean:
        raise ValueError(f"{file} lacks mean and std of the network's input")
