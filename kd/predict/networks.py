"""The network that answers: of a run, by torch, or an exported ONNX file, by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kd.data.files import printable
from kd.evaluation.predict import predict
from kd.inference.description import Description
from kd.inference.load import ROLES, load
from kd.inference.model import Model
from kd.inference.preprocess import shown
from kd.interfaces import Batch
from kd.runtime.device import resolve_device
from kd.runtime.errors import first_line
from kd.runtime.text import did_you_mean

ONNX = ".onnx"
BESIDE = ("", "deploy")  # folders in RUN where a file of --model may lie
PROVIDERS = {"auto": "CPUExecutionProvider", "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Network(NamedTuple):
    """A network that is ready, and what its file says of it."""

    description: Description
    logits: Callable[[np.ndarray], np.ndarray]  # stored pixels, uint8 [B, S, S, C] -> float32 [B, K]
    name: str  # for messages


def open_network(run: str, model: str | None = None, device: str = "auto", trusted: bool = False) -> Network:
    """Return the network that the command names.

    Args:
        run: the folder of a run, a self-describing file of weights, a folder of ``kd.export``, or an ONNX file.
        model: "student" (None is the same), "teacher", "baseline", or an ONNX file: its path, or its name in ``run`` or
            ``run``/deploy.
        device: auto, cpu, cuda or mps. trusted: see ``kd.inference.load.load``.

    Raises:
        ValueError, FileNotFoundError: no such network, or a damaged one; the extra for ONNX files, or the device, is
            missing.
    """
    if run.endswith(ONNX) and Path(run).is_file():
        if model not in (None, run):
            raise ValueError(f"{printable(run)} is the network already, so --model {printable(model)} has no place")
        return open_onnx(Path(run), device)
    if model is not None and model.endswith(ONNX):
        return _checked(open_onnx(_find(model, run), device), _load(run, "student", trusted).description, run)
    if model is not None and model not in ROLES:
        hint = did_you_mean(model, ROLES)
        raise ValueError(f"--model must be one of {', '.join(ROLES)}, or a file *{ONNX}, got {printable(model)}{hint}")
    return _open_torch(run, model or "student", device, trusted)


def _open_torch(run: str, which: str, device: str, trusted: bool) -> Network:
    """Return a network that computes as the run evaluated: device, memory format and precision are prepared alike."""
    found = _load(run, which, trusted)
    description = found.description
    try:
        machine = resolve_device(device, "float32", description.channels_last)
    except ValueError as error:
        raise ValueError(str(error).replace("train.device=", "--device ")) from error
    network = machine.to_device(found.network)

    def logits(pixels: np.ndarray) -> np.ndarray:
        images = shown(torch.from_numpy(pixels).to(machine.device), description)
        position = torch.arange(len(images))
        return predict(network, [Batch(images, position, position)], machine)

    return Network(description, logits, f"the {which} of {printable(run)}")


def _load(run: str, which: str, trusted: bool) -> Model:
    try:
        return load(run, which, trusted)
    except ValueError as error:  # the second line is advice for checkpoints of other programs
        raise ValueError(first_line(error)) from error


def open_onnx(path: Path, device: str = "auto") -> Network:
    """Return an ONNX file that ``kd.export`` wrote: its metadata describe it.

    Args:
        device: auto, cpu or cuda; auto is the CPU.

    Raises:
        ValueError: onnxruntime is missing or does not know the device, or the file is damaged or describes nothing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f'{path.name} needs onnxruntime: pip install -e ".[export]"') from error
    provider, named = PROVIDERS.get(device), printable(path)
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"--device {device} is not usable with {named}: this onnxruntime offers the CPU alone")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised as well
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # its classes have no common one below Exception
        raise ValueError(f"{named} is not a readable ONNX file: {_cause(error)}") from error
    description = Description.from_metadata(session.get_modelmeta().custom_metadata_map, named)
    source, side = session.get_inputs(), description.image_size
    if len(source) != 1 or source[0].type != "tensor(float)" or list(source[0].shape[1:]) != [3, side, side]:
        takes = ", ".join(f"{each.name} {each.shape} of {each.type}" for each in source)
        raise ValueError(f"{named} takes {takes}; images [N, 3, {side}, {side}] of tensor(float) would be right")

    def logits(pixels: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(shown(pixels, description).numpy())
        try:
            return session.run(None, {source[0].name: images})[0]
        except Exception as error:
            raise ValueError(f"{named} cannot answer for {len(images)} images: {_cause(error)}") from error

    return Network(description, logits, named)


def _cause(error: Exception) -> str:
    """Return the last part of onnxruntime's message, which begins with its error codes."""
    return first_line(error).rpartition(" : ")[2]


def _find(model: str, run: str) -> Path:
    """Return the ONNX file that --model names.

    Raises:
        FileNotFoundError: there is none, with the places that were searched.
    """
    typed = Path(model).expanduser()
    places = [typed, *(Path(run).expanduser() / folder / model for folder in BESIDE)]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"there is no {printable(typed)}, nor is it in {printable(run)} or its folder deploy: python -m kd.export "
        f"{printable(run)} makes it"
    )


def _checked(network: Network, ours: Description, run: str) -> Network:
    """Return ``network``, which must come from the same run as ``run``.

    Raises:
        ValueError: it does not.
    """
    theirs = network.description
    if theirs.key != ours.key:
        raise ValueError(
            f"{network.name} was exported from another run, {theirs.name}, than {printable(run)}: name it in place of "
            "the run, or export again"
        )
    return network
