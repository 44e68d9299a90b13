"""Formats that other libraries write: OpenVINO, Core ML, LiteRT (TensorFlow Lite). Each is an extra of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import nn

from kd.export.silent import silent
from kd.inference.description import Description
from kd.runtime.errors import first_line
from kd.runtime.text import did_you_mean

Predict = Callable[[np.ndarray], np.ndarray]  # float32 [B, 3, S, S] in [0, 1] -> logits [B, K]


@dataclass(frozen=True)
class Exported:
    """A file that was written, or a folder."""

    file: str  # its name in the folder
    format: str
    runtime: str  # what runs it, with its version
    predict: Predict | None  # None: it does not run on this machine
    reason: str = ""  # why not


@dataclass(frozen=True)
class Format:
    """A format, and the library that writes it."""

    module: str  # of kd: its ``write`` takes (deploy, network, description) and returns an Exported
    library: str  # to import
    package: str  # to install
    extra: str  # of setup.cfg


FORMATS = {
    "openvino": Format("kd.export.openvino_folder", "openvino", "openvino", "openvino"),
    "coreml": Format("kd.export.coreml_package", "coremltools", "coremltools", "coreml"),
    "tflite": Format("kd.export.tflite_file", "litert_torch", "litert-torch", "tflite"),
}


def check_installed(names: Sequence[str]) -> None:
    """Check that the libraries of these formats are installed, before anything is computed.

    Raises:
        ValueError: an unknown format, or a library that is missing; says what to install.
    """
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"there is no format {name!r}, only {', '.join(FORMATS)}{did_you_mean(name, FORMATS)}")
    missing = [FORMATS[name] for name in names if find_spec(FORMATS[name].library) is None]
    if missing:
        extras = ",".join(each.extra for each in missing)
        needed = " and ".join(f"--{each.extra} needs {each.package}" for each in missing)
        raise ValueError(f'{needed}: pip install -e ".[{extras}]"')


def write(names: Sequence[str], deploy: Path, network: nn.Module, description: Description) -> list[Exported]:
    """Write a network in each of these formats, and return what was written, in this order.

    Args:
        names: keys of FORMATS. deploy: the folder, which holds ``student.onnx``.
        network: on the CPU, in eval mode, with its normalisation; of batch norms that can be folded, without them.

    Raises:
        ValueError: see ``check_installed``; or a library cannot write this network, with its reason.
    """
    check_installed(names)
    made = []
    for name in names:
        try:
            with silent():
                made.append(import_module(FORMATS[name].module).write(deploy, network, description))
        except Exception as error:  # of each library's own kinds
            raise ValueError(f"{FORMATS[name].package} cannot write this network: {first_line(error)}") from error
    return made
