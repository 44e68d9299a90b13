"""One student under test: what each of its files is compared with, and the rows of the report."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import safetensors.torch
import torch
from torch import Tensor, nn

from kd.evaluation.cost import state_of
from kd.export import measure
from kd.export.measure import Predict, Scores
from kd.export.report import decide_float, entry, numbers
from kd.export.run_data import Splits
from kd.export.source import Source

ONNXRUNTIME = f"onnxruntime {onnxruntime.__version__}"
TORCH = f"torch {torch.__version__.partition('+')[0]}"
Decision = tuple[bool | None, str]


class Trial:
    """Compares files with the torch student on the test images, or on random images where there are none.

    Args:
        seconds: time of one latency.
    """

    def __init__(self, source: Source, splits: Splits | None, seconds: float):
        self.source, self.splits, self.seconds = source, splits, seconds
        self.description, self.size, self.device = source.model.description, source.model.image_size, source.device
        self.network = source.model.network.to(memory_format=torch.contiguous_format)
        self.targets = splits.test.targets if splits else None
        self.reference = self.logits(measure.by_torch(self.as_evaluated(self.network)))

    @property
    def count(self) -> int:
        """The number of images that files are compared on."""
        return len(self.reference)

    @property
    def own(self) -> Scores:
        """The scores of the torch student."""
        return measure.compare(self.reference, self.reference, self.targets)

    def images(self) -> Iterator[Tensor]:
        return self.splits.test.batches() if self.splits else measure.random_images(self.size)

    def logits(self, predict: Predict) -> np.ndarray:
        return measure.predict_all(predict, self.images())

    def scores(self, predict: Predict) -> Scores:
        return measure.compare(self.logits(predict), self.reference, self.targets)

    def as_evaluated(self, network: nn.Module) -> nn.Module:
        """Return a copy of a network as its run evaluated it, in its memory format."""
        return self.device.to_device(copy.deepcopy(network)).eval()

    def decide(self, scores: Scores) -> Decision:
        """Decide on a float format."""
        return decide_float(scores, self.count, self.splits is not None)

    def torch_row(self, network: nn.Module) -> dict[str, Any]:
        """Return scores, size as safetensors and latencies of a network of torch."""
        used = self.as_evaluated(network)
        scores = self.scores(measure.by_torch(used))
        latency = measure.torch_latency(used, self.size, self.seconds, self.device)
        return numbers(scores) | {"size_bytes": len(safetensors.torch.save(state_of(network))), "latency_ms": latency}

    def session_row(self, path: Path, form: str, decide: Callable[[Scores], Decision]) -> dict[str, Any]:
        """Return the row of a file of ONNX, run by onnxruntime."""
        scores = self.scores(measure.by_session(measure.open_session(path)))
        latency = measure.session_latency(path, self.size, self.seconds)
        return entry(path.name, form, ONNXRUNTIME, path.stat().st_size, scores, latency, decide(scores))

    def program_row(self, path: Path) -> dict[str, Any]:
        """Return the row of a program of ``torch.export``."""
        network = torch.export.load(path).module()
        scores = self.scores(measure.by_torch(network))
        latency = measure.torch_latency(network, self.size, self.seconds, self.device)
        form = "torch.export program, float32"
        return entry(path.name, form, TORCH, path.stat().st_size, scores, latency, self.decide(scores))

    def other_row(self, path: Path, form: str, runtime: str, predict: Predict | None) -> dict[str, Any]:
        """Return the row of a file of another library; None where that library does not run here."""
        scores = self.scores(predict) if predict else None
        decision = self.decide(scores) if scores else (None, "was not run here")
        return entry(path.name, form, runtime, size_of(path), scores, None, decision)

    def reproduced(self) -> dict[str, Any] | None:
        """Compare the torch student with the logits that its run recorded; None if there are none.

        Raises:
            ValueError: they are those of another student.
        """
        recorded = (self.splits.recorded or {}).get("student") if self.splits else None
        if recorded is None:
            return None
        if recorded.shape != self.reference.shape:
            raise ValueError(
                f"{self.source.run}: predictions.npz holds logits {list(recorded.shape)} of another student"
            )
        found = measure.compare(self.reference, recorded, None)
        others = round((1 - found.agreement) * self.count)
        if others > max(1, self.count // 1000):
            raise ValueError(
                f"{self.source.run}: student.safetensors predicts other classes than predictions.npz for {others:,} of "
                f"{self.count:,} test images: the two files belong to different runs"
            )
        return {"agreement": found.agreement, "largest_difference": found.largest_difference}


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
