"""``student.pt2``: the student as a program of ``torch.export``, for any number of images at a time."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kd.inference.description import Description
from kd.runtime.errors import first_line

DESCRIPTION = "kd.json"  # the name of the description inside of a .pt2 file
TRACES = ("stack_trace", "source_fn_stack", "from_node")  # what a program remembers of the machine that wrote it


def to_program(network: nn.Module, image_size: int) -> ExportedProgram:
    """Return a network as a program for images [batch, 3, image_size, image_size], with any batch.

    Raises:
        ValueError: torch cannot write this network as a program; says why.
    """
    images = example(image_size)
    try:
        with quiet():
            return torch.export.export(network.eval(), (images,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # torch has no common class for these
        raise ValueError(f"torch.export cannot write this network as a program: {cause_of(error)}") from error


def example(image_size: int) -> Tensor:
    """Return two images, the same at every call: a batch of one would be taken for a constant."""
    return torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))


def write_program(program: ExportedProgram, path: Path, description: Description) -> None:
    """Write a program with its description, which ``extra_files={"kd.json": ""}`` of ``torch.export.load`` reads."""
    for node in program.graph.nodes:
        for name in TRACES:
            node.meta.pop(name, None)
    text = json.dumps(description.to_metadata(), ensure_ascii=False, sort_keys=True)
    with quiet():
        torch.export.save(program, path, extra_files={DESCRIPTION: text})


def cause_of(error: BaseException) -> str:
    """Return one line about the first of a chain of errors: exporters wrap it in advice on themselves."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what exporters say about their own insides."""
    names = ("torch.export", "torch.onnx", "torch._export", "onnxscript", "onnx_ir")
    logs = [logging.getLogger(name) for name in names]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
