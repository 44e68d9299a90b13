"""``student.onnx``: the student for any runtime of ONNX, with its normalisation inside.

The file describes itself: names and units of input and output, the classes, and all that ``Description`` holds lie in
its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.export import ExportedProgram

import kd
from kd.export.program import cause_of, quiet
from kd.inference.description import Description
from kd.runtime.errors import first_line

INPUT, OUTPUT, BATCH = "images", "logits", "batch"


def write_onnx(program: ExportedProgram, path: Path, description: Description) -> onnx.ModelProto:
    """Write a program as ONNX, in the opset that torch recommends, and return it.

    Raises:
        ValueError: torch cannot write this network as ONNX, or the checker of ONNX refuses the result.
    """
    try:
        model = _convert(program)
    except Exception:  # torch has no common class for these
        try:
            with quiet():  # an operator that has no ONNX form here may consist of some that have one
                program = program.run_decompositions()
            model = _convert(program)
        except Exception as error:
            raise ValueError(f"torch.onnx cannot write this network: {cause_of(error)}") from error
    _forget_origin(model)
    _name_batch(model)
    describe(model, description)
    save(model, path)
    return model


def _convert(program: ExportedProgram) -> onnx.ModelProto:
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    with quiet():
        made = torch.onnx.export(program, (), **names, dynamo=True, verbose=False, external_data=False)
        return made.model_proto


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check a model and write it.

    Raises:
        ValueError: the checker of ONNX refuses it.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ValueError(f"{path.name} does not pass the checker of ONNX: {first_line(error)}") from error
    onnx.save_model(model, path)


def describe(model: onnx.ModelProto, description: Description, more: Mapping[str, str] | None = None) -> None:
    """Write into a model what it is, what it takes and what it gives, in place.

    Args:
        more: further metadata.
    """
    side, count = description.image_size, len(description.classes)
    takes = f"float32 [{BATCH}, 3, {side}, {side}]: RGB, each value in [0, 1]; the network normalises by itself"
    gives = f"float32 [{BATCH}, {count}]: logits, one for each class; their softmax gives probabilities"
    model.producer_name, model.producer_version = "kd", kd.__version__
    model.doc_string = f"The student of {description.name}" if description.name else "A student of kd"
    model.graph.name = "student"
    model.graph.input[0].doc_string, model.graph.output[0].doc_string = takes, gives
    metadata = description.to_metadata() | {f"input.{INPUT}": takes, f"output.{OUTPUT}": gives, **(more or {})}
    del model.metadata_props[:]
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's operators that a model uses."""
    return next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove where in Python's sources each node comes from: paths of this machine, and a tenth of a small file."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        part.doc_string = ""
        del part.metadata_props[:]


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the open dimension by its name: torch numbers it."""
    graph = model.graph
    own = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = _renamed(dimension.dim_param, own)


def _renamed(expression: str, own: str) -> Any:
    return BATCH if expression == own else expression.replace(own, BATCH)
