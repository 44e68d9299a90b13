"""What is exported: the student of a run, or a file that describes itself; and where the files go."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from kd.inference.load import load
from kd.inference.model import Model
from kd.records.run_folder import MODELS, load_arrays, read_part
from kd.runtime.device import Device

FOLDER, STUDENT = "deploy", "student.safetensors"


class Source(NamedTuple):
    """A trained student."""

    model: Model
    run: Path | None  # the folder of its run; None for a file alone
    out: Path  # the folder to write

    @property
    def name(self) -> str:
        return self.model.description.name or self.out.parent.name

    @property
    def outputs(self) -> Path | None:
        """The outputs folder that the run lies in, which holds its decoded data; None if it is elsewhere."""
        inside = self.run is not None and self.run.absolute().parent.name == "runs"
        return self.run.absolute().parent.parent if inside else None

    @property
    def device(self) -> Device:
        """The CPU, with the memory format in which the run evaluated."""
        return Device(torch.device("cpu"), torch.float32, self.model.description.channels_last)


def open_source(path: Path, out: Path | None, trusted: bool) -> Source:
    """Load the student of a run folder, of a ``student.safetensors`` or of a ``deploy`` folder.

    Args:
        out: the folder to write; None: ``deploy`` in the folder, or beside the file.

    Raises:
        FileNotFoundError, ValueError: see ``kd.inference.load.load``.
    """
    path = path.expanduser()
    if path.name == STUDENT and (path.parent / MODELS).is_file():
        path = path.parent  # the file of a run that is here
    model = load(path, "student", trusted)
    is_run = (path / MODELS).is_file()
    parent = path if path.is_dir() else path.parent
    return Source(model, path if is_run else None, out.expanduser() if out else parent / FOLDER)


def recorded(run: Path) -> dict:
    """Return the arrays of a run's ``predictions.npz``: index [N], target [N], logits [N, K] by role.

    Raises:
        ReportError: missing or damaged. It is a ValueError.
    """
    return read_part(run, "predictions.npz", load_arrays)
