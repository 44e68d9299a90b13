"""``student.tflite``: the student for LiteRT (TensorFlow Lite), on Android and small computers; one image at a time."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd.export.other_formats import Exported
from kd.export.program import quiet
from kd.inference.description import Description

FILE = "student.tflite"


def write(deploy: Path, network: nn.Module, description: Description) -> Exported:
    """Write a file whose input is float32 [1, 3, S, S] in [0, 1] and whose output is logits [1, K].

    litert-torch 0.10 does not convert a network for any number of images.
    """
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    side = description.image_size
    example = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with quiet():
        litert_torch.convert(network.eval(), (example,)).export(str(deploy / FILE))
    interpreter = Interpreter(str(deploy / FILE))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        rows = []
        for image in images:
            interpreter.set_tensor(given["index"], np.ascontiguousarray(image[None]))
            interpreter.invoke()
            rows.append(interpreter.get_tensor(answer["index"]))
        return np.concatenate(rows)

    return Exported(FILE, "LiteRT, float32", f"LiteRT {version('ai-edge-litert')}", predict)
