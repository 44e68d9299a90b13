"""An export, step by step: find images, fold, write each file, measure it, decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from torch import nn
from torch.export import ExportedProgram

from kd.data.files import printable
from kd.export import other_formats
from kd.export.fold import Folded, fold_batch_norms
from kd.export.int8_file import write_int8
from kd.export.onnx_file import opset, write_onnx
from kd.export.program import example, to_program, write_program
from kd.export.run_data import NoImages, Splits, no_images, splits_of_folder, splits_of_run
from kd.export.source import Source
from kd.export.trial import Trial
from kd.runtime.console import print_line
from kd.runtime.user_warnings import warn_user


@dataclass(frozen=True)
class Wanted:
    """What the user asks for."""

    max_drop: float = 1.0  # points of accuracy that int8 may lose on the test split
    auto: bool = False  # leave out the layers that do harm, if int8 loses more
    int8: bool = True
    others: Sequence[str] = ()  # openvino, coreml, tflite
    seconds: float = 0.5  # time of one latency


def export(source: Source, folder: Path, wanted: Wanted, splits: Splits | None, origin: str) -> dict[str, Any]:
    """Write the files of a student into an empty folder; return the report, which is not written yet.

    Args:
        splits, origin: see ``find_splits``.

    Raises:
        ValueError: a damaged run, or a network that cannot be written.
    """
    trial = Trial(source, splits, wanted.seconds)
    reproduced = trial.reproduced()
    print_line(f"{printable(source.name)}: folding batch norms, writing student.onnx and student.pt2")
    folded, program = fold(trial.network, trial.size)
    notes = [f"{folded.count} batch norms are folded into convolutions"]
    about = {"torch": trial.torch_row(trial.network), "folded": trial.torch_row(folded.network)}
    path = folder / "student.onnx"
    model = write_onnx(program, path, trial.description)
    files = [trial.session_row(path, f"ONNX, float32, opset {opset(model)}", trial.decide)]
    quantised = None
    if wanted.int8:
        made = write_int8(trial, folder, model, wanted.max_drop, wanted.auto)
        files += [made.row] if made.row else []
        notes += [made.note] if made.note else []
        quantised = made.account
    path = folder / "student.pt2"
    write_program(program, path, trial.description)
    files.append(trial.program_row(path))
    files += _others(trial, folder, wanted.others, folded.network)
    return {
        "name": source.name,
        "key": trial.description.key,
        "classes": list(trial.description.classes),
        "test_images": trial.count if splits else None,
        "tested_on": origin,
        "own_images": splits.dataset is not None if splits else None,
        "machine": _machine(trial),
        "max_drop": wanted.max_drop,
        **about,
        "batch_norms_folded": folded.count,
        "files": files,
        "int8": quantised,
        "predictions": reproduced,
        "notes": notes,
    }


def find_splits(source: Source, images: Path | None, trusted: bool, scratch: Path) -> tuple[Splits | None, str]:
    """Return the images to test on and where they come from, or None and the reason.

    Args:
        images: class folders, in place of the run's own. trusted: see ``splits_of_run``.
        scratch: an empty folder that lasts as long as they do.

    Raises:
        ValueError, FileNotFoundError: ``--images`` is not right, or a file of the run is damaged.
    """
    if images:
        found = splits_of_folder(images.expanduser(), source.model.description)
        return found, found.origin
    if source.run is None:
        return None, no_images("a file alone leads to no data")
    try:
        found = splits_of_run(source, trusted, scratch)
        return found, found.origin
    except NoImages as error:
        warn_user(no_images(str(error)))
        return None, no_images(error.reason)


def fold(network: nn.Module, image_size: int) -> tuple[Folded, ExportedProgram]:
    """Return a network with its batch norms folded, and that as a program.

    Raises:
        ValueError: torch cannot write the network as a program.
    """
    folded = fold_batch_norms(network, to_program(network, image_size), example(image_size))
    return folded, to_program(folded.network, image_size)


def _others(trial: Trial, folder: Path, names: Sequence[str], network: nn.Module) -> list[dict[str, Any]]:
    """Write the formats that other libraries write; return their rows."""
    made = other_formats.write(names, folder, network, trial.description)
    return [trial.other_row(folder / each.file, each) for each in made]


def _machine(trial: Trial) -> Mapping[str, Any]:
    about = {name: value for name, value in trial.device.describe().items() if name != "precision"}
    return about | {"onnxruntime": onnxruntime.__version__}
