"""``student.openvino/``: the student for OpenVINO, on processors and graphics of Intel and ARM; from its ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from kd.export.other_formats import Exported
from kd.inference.description import Description

FOLDER, NAME, SOURCE = "student.openvino", "student.xml", "student.onnx"
# without it OpenVINO computes in bfloat16 on processors that have it: logits differ by 1e-3
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def write(deploy: Path, network: nn.Module, description: Description) -> Exported:
    """Write ``student.xml`` (the graph and its metadata) and ``student.bin`` (the weights, float32) into a folder."""
    import openvino

    model = openvino.convert_model(deploy / SOURCE)
    for name, value in description.to_metadata().items():
        model.set_rt_info(value, ["kd", name])
    (deploy / FOLDER).mkdir(exist_ok=True)
    openvino.save_model(model, deploy / FOLDER / NAME, compress_to_fp16=False)
    compiled = openvino.compile_model(deploy / FOLDER / NAME, "CPU", FLOAT32)

    def predict(images: np.ndarray) -> np.ndarray:
        return np.array(compiled(images)[0])

    version = openvino.__version__.partition("-")[0]
    return Exported(FOLDER, "OpenVINO, float32", f"openvino {version}", predict)
