"""``student.mlpackage``: the student for Core ML, on macOS and iOS; one image at a time.

coremltools writes it anywhere. Core ML itself runs on macOS alone, so elsewhere nothing is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd.export.other_formats import Exported
from kd.export.program import quiet
from kd.inference.description import Description

FILE, IMAGES, LOGITS = "student.mlpackage", "images", "logits"


def write(deploy: Path, network: nn.Module, description: Description) -> Exported:
    """Write a package whose input is float32 [1, 3, S, S] in [0, 1] and whose output is logits [1, K]."""
    import coremltools

    side = description.image_size
    example = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with quiet():
        program = torch.export.export(network.eval(), (example,)).run_decompositions({})
        model = coremltools.convert(
            program,
            outputs=[coremltools.TensorType(name=LOGITS)],
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=coremltools.precision.FLOAT32,
        )
    given = model.get_spec().description.input[0].name
    model.short_description = f"Image classifier, {len(description.classes)} classes: logits of images in [0, 1]"
    model.input_description[given] = f"RGB, float32 [1, 3, {side}, {side}], each value in [0, 1]"
    model.output_description[LOGITS] = "One logit for each class; their softmax gives probabilities"
    model.user_defined_metadata.update({f"kd.{name}": value for name, value in description.to_metadata().items()})
    model.save(str(deploy / FILE))
    version = f"coremltools {coremltools.__version__}"
    if sys.platform != "darwin":
        return Exported(FILE, "Core ML, float32", version, None, "Core ML runs on macOS and iOS alone")

    def predict(images: np.ndarray) -> np.ndarray:
        return np.concatenate([model.predict({given: image[None]})[LOGITS] for image in images])

    return Exported(FILE, "Core ML, float32", version, predict)
